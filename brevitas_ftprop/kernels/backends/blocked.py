"""The eager formulas on blocks that stay in the processor's cache.

A chain of elementwise operations on a large tensor goes to memory and back at every link; block by
block it does so once. Nothing is compiled, and every rule has this backend, a user's included.
Elements equal eager's to the bit, or to a few ulps in rules with an exponential. So do the sums of
a tensor that is one block; those of more are added up block by block, in float64.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import repeat

import torch
from torch import Tensor

from ...rules import Rule
from ..codes import code_size, encode_slope
from ..layout import flat, in_layout, layout_of
from ..registered_steps import Integers
from ..saved_forms import Keep, compact, empty_compact, input_of, keep_of
from ..shortcuts import ScaleShortcut, Shortcut, scale_shortcut, shortcut
from ..step import Operands, Step, is_zero
from . import eager
from .eager import Asked, Gradients, Needs, sum_to

# Elements for each thread, chosen by measurement: fewer, and Python's own time shows; more, and the
# tensors in between no longer fit the cache. A multiple of 8, so that the packed codes of the
# blocks follow one another.
BLOCK = 1 << 18
# What is kept, ∂L/∂y, where ∂L/∂x is to be written, and the operands, block by block.
Parts = Iterable[tuple[Tensor, Tensor, Tensor, Operands]]


def reason_against(device: torch.device, step: Step, operands: Operands, rule: Rule) -> str | None:
    """Why this backend cannot compute a step: it is for processors with caches of their own."""
    return None if device.type == "cpu" else "blocks are for the CPU's cache"


def forward(
    step: Step, x: Tensor, operands: Operands, rule: Rule, keep: Keep
) -> tuple[Tensor, Tensor]:
    """As :func:`.eager.forward`."""
    blocks = _Blocks(x, operands)
    if not blocks.fit or (keep is Keep.CODE and not blocks.are_flat):
        return eager.forward(step, x, operands, rule, keep)
    y = torch.empty_like(x, dtype=operands.result_type(x))
    if blocks.are_one:
        step.output(x, operands.with_numbers(), y)
        return y, compact(keep, step, x, operands, rule)
    kept = empty_compact(keep, step, x, rule)
    make = partial(compact, keep, step)
    if keep is Keep.CODE and rule.even and y.dtype == x.dtype:
        short = shortcut(step, next(blocks.operands(operands)), rule, x.dtype)
        make = make if short is None else _encoder(step, short, x, blocks.size)
    parts = zip(
        blocks.of(x),
        blocks.of(y),
        blocks.operands(operands.with_numbers()),
        blocks.kept(kept if keep.is_made else None, step, rule),
        strict=False,
    )
    for part_x, part_y, part_operands, part_kept in parts:
        step.output(part_x, part_operands, part_y)
        if part_kept is not None:
            part_kept.copy_(make(part_x, part_operands, rule).view_as(part_kept))
    return y, kept


def _encoder(step: Step, short: Shortcut, x: Tensor, size: int) -> Callable[..., Tensor]:
    """:func:`..codes.encode` by a shortcut."""
    slopes, ones = x.new_empty(size), x.new_ones(size)

    def encoded(x: Tensor, operands: Operands, rule: Rule) -> Tensor:
        slope = slopes[: len(x)]
        short.slope(x, ones[: len(x)], slope)
        return encode_slope(step, slope, operands, rule)

    return encoded


def backward(
    step: Step, grad: Tensor, kept: Tensor | None, operands: Operands, rule: Rule, asked: Asked
) -> Gradients:
    """As :func:`.eager.backward`."""
    is_code, needs = keep_of(kept) is Keep.CODE, asked.needs
    blocks = _Blocks(grad, operands)
    if not blocks.fit or (is_code and not blocks.are_flat):
        return eager.backward(step, grad, kept, operands, rule, asked)
    in_order = in_layout(grad, layout_of(grad if kept is None or is_code else kept))
    grad_x = torch.empty_like(in_order)
    if (
        asked.weighting == "grad"
        and blocks.are_flat
        and kept is not None
        and (kept.dtype == grad.dtype or keep_of(kept) is Keep.HALF)
    ):
        gradients = _by_shortcut(
            step, blocks, in_order, kept, grad_x, operands, rule, needs, as_eager=in_order is grad
        )
        if gradients is not None:
            return gradients
    if blocks.are_one:
        return eager.backward(step, grad, kept, operands, rule, asked)
    sums = {
        name: torch.zeros_like(getattr(operands, name), dtype=torch.float64) for name in needs.names
    }
    parts = zip(
        blocks.of(in_order),
        blocks.kept(kept, step, rule),
        blocks.of(grad_x),
        blocks.operands(operands),
        blocks.operands(Operands(**sums)),
        strict=False,
    )
    for part_grad, part_kept, part_out, part_operands, part_sums in parts:
        gradients = eager.backward(
            step,
            part_grad,
            part_kept.reshape(-1) if part_kept is not None and is_code else part_kept,
            part_operands,
            rule,
            asked,
            out=part_out,
        )
        for total, value in zip(part_sums[:-1], gradients[1:], strict=True):
            if total is not None:
                total.add_(value)
    return Gradients(grad_x, **sums)


def _by_shortcut(
    step: Step,
    blocks: "_Blocks",
    grad: Tensor,
    kept: Tensor,
    grad_x: Tensor,
    operands: Operands,
    rule: Rule,
    needs: Needs,
    *,
    as_eager: bool,
) -> Gradients | None:
    """Without the slopes, where there is a way."""
    operands = operands.with_numbers()
    what = next(blocks.operands(operands)), rule, grad.dtype
    parts = zip(
        blocks.of(kept), blocks.of(grad), blocks.of(grad_x), blocks.operands(operands), strict=False
    )
    if isinstance(step, Integers) and needs == Needs(scale=True):
        short = scale_shortcut(step, *what)
        if short is None:
            return None
        if not (blocks.are_one and short.has_factors):
            total = _scale_by_blocks(step, short, parts)
        elif as_eager:
            total = _scale_as_eager(step, short, parts)
        else:
            # The order depends on how the gradient lies in memory.
            return None
        # Infinities behind a ReLU or beyond the range count for nothing in eager's formulas.
        return Gradients(grad_x, total) if math.isfinite(total) else None
    short = None if any(needs) else shortcut(step, *what)
    if short is None:
        return None
    for part_kept, part_grad, part_out, part_operands in parts:
        short.passage(input_of(part_kept, part_operands, grad.dtype), part_grad, part_out)
    return Gradients(grad_x)


def _scale_by_blocks(step: Integers, short: ScaleShortcut, parts: Parts) -> Tensor:
    """``∂L/∂s = Σ g·(q - z) - Σ ∂L/∂x·x/s``, which is what eager sums, by way of ∂L/∂x."""
    outer = inner = 0.0
    v, operands = None, Operands()
    for kept, grad, out, operands in parts:
        x = input_of(kept, operands, grad.dtype)
        v = step.position(x, operands, None if v is None else v[: len(x)])
        short.passage(x, v, grad, out)
        if short.has_factors:
            step.leave(out, operands, out)
        inner += float(torch.dot(flat(out), flat(x)))
        outer += float(torch.dot(flat(grad), flat(step.from_zero_at(v, operands, v))))
    scale = operands.scale
    return scale.new_tensor(outer - inner / float(scale), dtype=torch.float64).view_as(scale)


def _scale_as_eager(step: Integers, short: ScaleShortcut, parts: Parts) -> Tensor:
    """The same sum of a single block, in the order of eager and stock Brevitas, to the bit."""
    ((kept, grad, out, operands),) = parts
    scale = operands.scale
    x = input_of(kept, operands, grad.dtype)
    v, passed = step.position(x, operands), torch.empty_like(grad)
    short.passage(x, v, grad, passed)
    outer = sum_to(scale, step.from_zero_at(v, operands, out).mul_(grad))
    ratio = v if is_zero(operands.zero_point) else torch.div(x, scale, out=v)
    inner = sum_to(scale, ratio.div_(scale).mul_(passed))
    step.leave(passed, operands, out)
    return outer - inner


class _Blocks:
    """How a dense tensor is cut: into runs of elements, or, for operands that differ from place
    to place, into runs of rows.
    """

    def __init__(self, x: Tensor, operands: Operands):
        size = BLOCK * torch.get_num_threads()
        self.are_one = x.numel() <= size
        self.are_flat = True
        # A number may be quantized with a scale that has dimensions.
        self.fit = True
        for each in operands[:-1]:
            if each is not None and each.dim():
                self.are_flat = self.are_flat and each.numel() == 1
                self.fit = self.fit and each.dim() <= x.dim()
        rows = 0 if self.are_one else max(1, size // (x.numel() // x.shape[0]))
        self.size = size if self.are_flat else rows
        self.shape = x.shape

    def of(self, x: Tensor) -> Sequence[Tensor]:
        """The parts of a tensor that has the shape and layout of the one that is cut."""
        if self.are_one:
            return (x,)
        return (flat(x) if self.are_flat else x).split(self.size)

    def operands(self, operands: Operands) -> Iterator[Operands]:
        """The operands of each part."""
        if self.are_one:
            return iter((operands,))
        *rest, rounded = operands
        return map(
            Operands,
            *map(self._operand, rest),
            repeat(None) if rounded is None else self.of(rounded),
        )

    def _operand(self, operand: Tensor | None) -> Sequence[Tensor] | Iterator[Tensor | None]:
        if not isinstance(operand, Tensor) or not operand.dim():
            return repeat(operand)
        if self.are_flat:
            # One with dimensions takes part in type promotion, and has to go on doing so.
            return repeat(operand.view(1))
        if operand.dim() == len(self.shape) and operand.shape[0] > 1:
            return operand.split(self.size)
        return repeat(operand)

    def kept(
        self, kept: Tensor | None, step: Step, rule: Rule
    ) -> Sequence[Tensor] | Iterator[None]:
        """The parts of what is kept; of a code with a row for each of the target's signs."""
        if kept is None:
            return repeat(None)
        if keep_of(kept) is not Keep.CODE:
            return self.of(kept)
        planes = 1 if rule.even else 2
        return kept.view(planes, -1).split(code_size(step, rule, self.size) // planes, dim=1)
