"""The meaning of a step and its gradient, in plain torch; every other backend must equal it."""

from typing import NamedTuple

import torch
from torch import Tensor

from ...rules import Rule
from ...targets import sign_target, weighted_sign
from ..codes import decode
from ..registered_steps import Integers, Sign, Ternary
from ..saved_forms import Keep, compact, input_of, keep_of
from ..step import Operands, Step


class Needs(NamedTuple):
    """Which gradients of a step are asked for, beside that of its input."""

    scale: bool = False
    zero_point: bool = False
    bounds: bool = False

    @property
    def names(self) -> list[str]:
        """The operands whose gradients they are."""
        each = self.scale, self.zero_point, self.bounds, self.bounds
        return [name for name, needed in zip(Operands._fields, each, strict=False) if needed]


class Asked(NamedTuple):
    """How a backward pass weights a unit's loss, and what it is asked for.

    Attributes:
        weighting: ``"grad"`` or ``"mean"``.
        needs: the gradients that are asked for beside that of the input.
        batch_size: the N of the 1/N weight.
    """

    weighting: str
    needs: Needs
    batch_size: int


class Gradients(NamedTuple):
    """Gradients of a step's input and operands, None where they were not asked for."""

    x: Tensor
    scale: Tensor | None = None
    zero_point: Tensor | None = None
    lo: Tensor | None = None
    hi: Tensor | None = None


def reason_against(device: torch.device, step: Step, operands: Operands, rule: Rule) -> str | None:
    """Why this backend cannot compute a step; never for this one."""
    return None


def forward(
    step: Step, x: Tensor, operands: Operands, rule: Rule, keep: Keep, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The quantized value, and the code or half of the input that is to be kept (else empty)."""
    return step.output(x, operands, out), compact(keep, step, x, operands, rule)


def backward(
    step: Step,
    grad: Tensor,
    kept: Tensor | None,
    operands: Operands,
    rule: Rule,
    asked: Asked,
    out: Tensor | None = None,
) -> Gradients:
    """Gradients of a step, ``∂L/∂x = w·t·Σ_k l'(t·z_k)`` with the factors that lead in and out.

    Args:
        step: the step.
        grad: ∂L/∂y, any shape.
        kept: the input, or the code or half that :func:`forward` made of it, or None where the
            slopes do not depend on it.
        operands: those of the forward pass.
        rule: the target rule.
        asked: the weighting, and what else is asked for; then ``kept`` is the input or its half.
        out: where to write ∂L/∂x.

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573, algorithm 1 and section 4.
    """
    weighting, needs, batch_size = asked
    entered = step.enter(grad, operands)
    weighted = weighted_sign(entered, weighting, batch_size)
    if weighting == "mean" and isinstance(step, Integers):
        # The entering gradient is |g|·s; so has the weight that replaces it to be.
        weighted = weighted * operands.scale
    target = None if rule.even else sign_target(entered)
    gate = None
    if kept is None:
        slope = step.slope(grad.new_zeros(()), operands, rule, target)
    elif keep_of(kept) is Keep.CODE:
        slope = decode(step, kept, operands, rule, target, entered)
    else:
        kept = input_of(kept, operands, grad.dtype)
        slope, gate = step.slope(kept, operands, rule, target), step.gate(kept)
    passed = _product(slope, weighted)
    through = passed if gate is None else _product(gate, passed)
    gradients = Gradients(step.leave(through, operands, out))
    if kept is None or not any(needs):
        return gradients
    if isinstance(step, Integers):
        return _of_integers(step, gradients, grad, entered, passed, kept, operands, needs)
    assert isinstance(step, Sign | Ternary)
    return gradients._replace(scale=_of_scale(step, grad, kept, operands, rule))


def _product(own: Tensor, other: Tensor) -> Tensor:
    """Product that may overwrite its first factor."""
    if own.dtype == other.dtype and own.shape == other.shape:
        return own.mul_(other)
    return own * other


def _of_scale(
    step: Sign | Ternary, grad: Tensor, x: Tensor, operands: Operands, rule: Rule
) -> Tensor:
    shape = operands.scale.shape
    total = (grad * step.level(x, operands)).sum_to_size(shape)
    if isinstance(step, Sign) and rule.clamp_width is not None:
        # The saturated rule is the gradient of a clamp at ±width·scale, whose ends move with the
        # scale.
        end = operands.scale * rule.clamp_width
        grad_end = grad * end
        above = torch.where(x > end, grad_end, 0.0).sum_to_size(shape)
        below = torch.where(x < -end, grad_end, 0.0).sum_to_size(shape)
        total = total + above - below
    return total


def _of_integers(
    step: Integers,
    gradients: Gradients,
    grad: Tensor,
    entered: Tensor,
    passed: Tensor,
    x: Tensor,
    operands: Operands,
    needs: Needs,
) -> Gradients:
    """The derivatives of ``(q - z)·s`` and of ``x/s + z`` that autograd would find in stock's."""
    scale, zero_point, lo, hi, _ = operands
    if needs.scale:
        outer = sum_to(scale, grad * (step.level(x, operands) - zero_point))
        rectified = x.clamp(min=0) if step.relu else x
        inner = sum_to(scale, -passed * ((rectified / scale) / scale))
        gradients = gradients._replace(scale=outer + inner)
    if needs.zero_point:
        total = sum_to(zero_point, passed) - sum_to(zero_point, entered)
        gradients = gradients._replace(zero_point=total)
    if needs.bounds:
        rounded = step.rounded(x, operands)
        gradients = gradients._replace(
            lo=sum_to(lo, torch.where(rounded < lo, entered, 0.0)),
            hi=sum_to(hi, torch.where(rounded > hi, entered, 0.0)),
        )
    return gradients


def sum_to(operand: Tensor, terms: Tensor) -> Tensor:
    """The sum of terms for an operand that was broadcast to them."""
    return terms.sum_to_size(operand.shape).to(operand.dtype)
