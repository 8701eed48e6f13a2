"""What a pass over tensors of one kind comes to, found out once.

A plan holds all that step, rule, shapes and dtypes settle, so that a step of a training run only
allocates and launches.
"""

from typing import Any

import torch
from torch import Tensor

from ....rules import Rule
from ...codes import code_size, is_bits
from ...layout import in_layout, layout_of
from ...registered_steps import PaperStaircase, Sign
from ...saved_forms import Keep, empty_compact, keep_of
from ...step import Operands, Step
from ..eager import Asked, Gradients, Needs
from . import prepare
from .launch import Launch


class ForwardPlan:
    """A forward pass, see :func:`.eager.forward`."""

    def __init__(self, step: Step, x: Tensor, operands: Operands, rule: Rule, keep: Keep) -> None:
        from .forward_kernel import forward_pass

        # Held, since plans are found by the identity of the two.
        self.step, self.rule = step, rule
        self.dtype, self.keep = operands.result_type(x), keep
        self.launch: Launch | None = None
        if x.numel() == 0:
            return
        bits = keep is Keep.CODE and is_bits(step, rule)
        channels = prepare.channels_of(x, operands)
        programs, tiles = prepare.tiles_of(channels, flat=bits)
        given = prepare.arguments(step, operands, rule, x, self.dtype, tiles)
        if isinstance(step, PaperStaircase):
            given["second_number"] /= given["first_number"]
        given["keep"] = (keep if keep.is_made else Keep.NOTHING).value
        given["code_size"] = _plane_size(step, rule, x.numel())
        self.launch = Launch(forward_pass, programs, given)

    def __call__(self, x: Tensor, operands: Operands) -> tuple[Tensor, Tensor]:
        y = torch.empty_like(x, dtype=self.dtype)
        kept = empty_compact(self.keep, self.step, x, self.rule)
        if self.launch is not None:
            tensors = x, y, kept if kept.numel() else None, *_dense(operands)
            self.launch(x.device, tensors)
        return y, kept


class BackwardPlan:
    """A backward pass, see :func:`.eager.backward`; kernels need no more than two launches."""

    def __init__(
        self,
        step: Step,
        grad: Tensor,
        kept: Tensor | None,
        operands: Operands,
        rule: Rule,
        asked: Asked,
    ) -> None:
        from .backward_kernel import backward_pass
        from .sums import add_up

        self.step, self.rule = step, rule
        kind = keep_of(kept)
        as_input = kept is not None and kind in (Keep.INPUT, Keep.HALF)
        self.layout = layout_of(grad if kept is None or kind is Keep.CODE else kept)
        # A half becomes an input in the dtype of the gradient.
        x = kept if kind is Keep.INPUT and kept is not None else in_layout(grad, self.layout)
        self.dtype = torch.promote_types(operands.result_type(x), grad.dtype)
        wide = torch.float64 if self.dtype is torch.float64 else torch.float32
        self.sums = _asked_for(operands, asked.needs) if as_input else ()
        self.launch: Launch | None = None
        if grad.numel() == 0:
            return
        programs, tiles = prepare.tiles_of(prepare.channels_of(x, operands), flat=False)
        given = prepare.arguments(
            *(step, operands, rule, x, self.dtype, tiles),
            of_code=kind is Keep.CODE,
            compares="scale" in self.sums or "lo" in self.sums,
        )
        given |= {
            "code_size": _plane_size(step, rule, grad.numel()),
            "weight": 1 / max(asked.batch_size, 1),
            "clamps": isinstance(step, Sign) and rule.clamp_width is not None,
            "mean": asked.weighting == "mean",
            "kept": kind.value,
            "needs_scale": "scale" in self.sums,
            "needs_zero_point": "zero_point" in self.sums,
            "needs_bounds": "lo" in self.sums,
        }
        self.launch = Launch(backward_pass, programs, given)
        if not self.sums:
            return
        self.partial = {"size": (len(self.sums), tiles["channels"], tiles["chunks"]), "dtype": wide}
        self.add_up: Launch | None = None
        first = getattr(operands, self.sums[0])
        if len(self.sums) == 1 and first.dtype is wide:
            # Torch's own sum is as good as a kernel, and its launch is as cheap as any.
            self.along = (-1,) if prepare.varies(first) else (0, 1, 2)
            return
        given = {
            "channels": tiles["channels"],
            "chunks": tiles["chunks"],
            "scale_varies": prepare.varies(operands.scale),
            "zero_point_varies": prepare.varies(operands.zero_point),
            "block": prepare.BLOCK,
        }
        self.add_up = Launch(add_up, tiles["channels"], given)

    def __call__(self, grad: Tensor, kept: Tensor | None, operands: Operands) -> Gradients:
        grad = in_layout(grad, self.layout)
        of_x = torch.empty_like(grad, dtype=self.dtype)
        if self.launch is None:
            return Gradients(of_x, **{n: torch.zeros_like(getattr(operands, n)) for n in self.sums})
        dense = _dense(operands)
        if not self.sums:
            self.launch(grad.device, (grad, kept, of_x, None, *dense))
            return Gradients(of_x)
        partial = grad.new_empty(**self.partial)
        self.launch(grad.device, (grad, kept, of_x, partial, *dense))
        if self.add_up is None:
            (name,) = self.sums
            total = partial.sum(self.along).view(getattr(operands, name).shape)
            return Gradients(of_x, **{name: total})
        sums: dict[str, Any] = {}
        for name in self.sums:
            operand = getattr(operands, name)
            sums[name] = operand.new_empty(operand.shape)
        places = [sums.get(name) for name in ("scale", "zero_point", "lo", "hi")]
        self.add_up(grad.device, (partial, *places))
        return Gradients(of_x, **sums)


def _plane_size(step: Step, rule: Rule, elements: int) -> int:
    return code_size(step, rule, elements) // (1 if rule.even else 2)


def _dense(operands: Operands) -> list[Tensor | None]:
    """Operands whose values follow one another; most do already."""
    # The rounded input lies as the input does.
    dense = [None if each is None else each.contiguous() for each in operands[:4]]
    return [*dense, operands.rounded]


def _asked_for(operands: Operands, needs: Needs) -> tuple[str, ...]:
    """The operands whose gradient is asked for."""
    return tuple(name for name in needs.names if getattr(operands, name) is not None)
