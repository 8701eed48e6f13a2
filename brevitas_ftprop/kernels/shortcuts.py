"""Slope and gradient in one of torch's own operations, for the rules that most train with.

On a CPU an operation costs what it moves through the cache, so that the product of a gradient and a
slope is fastest where torch has both in one: a clamp's backward pass for the saturated rules, a
sigmoid's for those whose loss is one. Gradients are the eager formulas' to the bit for the former
and to a few ulps for the latter; at NaN torch's clamp passes a gradient or not as it happens.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..rules import Ede, LecunTanh, Rule, Sigmoid, SoftHinge
from .registered_steps import Integers, PaperStaircase, Sign, ungated
from .step import Operands, Step

aten = torch.ops.aten
INTEGERS_OF = {torch.float32: torch.int32, torch.float64: torch.int64}
# How many floats away from its exact place an edge may lie: a division and an addition round.
NEIGHBOURS = 8

# Slopes of the form c·σ'(k·m), as (c, k).
BELLS: dict[type[Rule], Callable[[Any], tuple[float, float]]] = {
    Ede: lambda rule: (4 * rule.k * rule.t, 2 * rule.t),
    LecunTanh: lambda rule: (4 * rule.x_scale * rule.y_scale, 2 * rule.x_scale),
    Sigmoid: lambda rule: (rule.x_scale * rule.y_scale, rule.x_scale),
    SoftHinge: lambda rule: (4 * rule.x_scale, 2 * rule.x_scale),
}


class Shortcut(NamedTuple):
    """The fast way back through a step.

    Attributes:
        passage: of the input, ∂L/∂y, and where ∂L/∂x is to be written.
        slope: of the input, a tensor of ones, and where the total slope is to be written.
    """

    passage: Callable[[Tensor, Tensor, Tensor], Any]
    slope: Callable[[Tensor, Tensor, Tensor], Any]


class ScaleShortcut(NamedTuple):
    """The fast way back through integers whose scale learns.

    Attributes:
        passage: of the input, ``v = x/s + z``, ∂L/∂y, and where what passes is to be written,
            which is ∂L/∂x, or, with the factors in and out of stock Brevitas, s times that.
        has_factors: whether it is the latter, and then to the bit.
    """

    passage: Callable[[Tensor, Tensor, Tensor, Tensor], Any]
    has_factors: bool


def shortcut(step: Step, operands: Operands, rule: Rule, dtype: torch.dtype) -> Shortcut | None:
    """The fast way back through a step, where there is one.

    It is for the weighting ``"grad"``, operands of one element each, and input, gradient and result
    of one dtype.

    >>> from brevitas_ftprop.rules import get_rule
    >>> operands = Operands(torch.tensor(0.5))
    >>> short = shortcut(Sign(), operands, get_rule("saturated_ste"), torch.float32)
    >>> grad_x = torch.empty(4)
    >>> short.passage(torch.tensor([-0.6, -0.5, 0.1, 0.6]), torch.ones(4), grad_x)
    >>> grad_x
    tensor([0.0000, 0.5000, 0.5000, 0.0000])
    >>> shortcut(Sign(), operands, get_rule("hinge"), torch.float32) is None
    True
    """
    if step.form == "sum" or dtype not in INTEGERS_OF:
        return None
    if type(rule) in BELLS:
        return _bell(step, operands, *BELLS[type(rule)](rule))
    if not _has_band(step, operands, rule):
        return None
    values = [None if each is None else float(each) for each in operands[:-1]]
    band = _band(step, rule, dtype, *values)
    return None if band is None else _within(step, operands, *band)


def scale_shortcut(
    step: Integers, operands: Operands, rule: Rule, dtype: torch.dtype
) -> ScaleShortcut | None:
    """As :func:`shortcut`, by way of ``v``, which the scale's gradient takes anyway; unlike there,
    nothing is looked for anew when the scale has changed.

    >>> from brevitas_ftprop.rules import get_rule
    >>> operands = Operands(*map(torch.tensor, (0.5, 0.0, 0.0, 3.0)))
    >>> step, rule = Integers("round", "single", relu=True), get_rule("saturated_ste")
    >>> short = scale_shortcut(step, operands, rule, torch.float32)
    >>> x, passed = torch.tensor([-0.1, 0.1, 1.7, 1.8]), torch.empty(4)
    >>> short.passage(x, x / 0.5, torch.ones(4), passed)
    >>> passed, short.has_factors
    (tensor([0.0000, 0.5000, 0.5000, 0.0000]), True)
    """
    if step.form == "sum" or dtype not in INTEGERS_OF or operands.rounded is not None:
        return None
    scale, zero_point, lo, hi = map(float, operands[:4])
    if type(rule) in BELLS:
        height, steepness = BELLS[type(rule)](rule)
        return ScaleShortcut(_bell_at(step, operands, height, steepness), has_factors=False)
    if not _has_band(step, operands, rule):
        return None
    band = _band(ungated(step), rule, dtype, 1.0, 0.0, lo, hi)
    if band is None:
        return None
    below, above = band
    # A large scale may turn a small positive input into 0, and a zero-point swallow it.
    gate_at_v = step.relu and zero_point == 0 and scale <= 1
    below = max(below, 0.0) if gate_at_v else below

    def passage(x: Tensor, v: Tensor, grad: Tensor, out: Tensor) -> None:
        torch.mul(grad, operands.scale, out=out)
        aten.hardtanh_backward.grad_input(out, v, below, above, grad_input=out)
        if step.relu and not gate_at_v:
            aten.threshold_backward.grad_input(out, x, 0, grad_input=out)

    return ScaleShortcut(passage, has_factors=True)


def _has_band(step: Step, operands: Operands, rule: Rule) -> bool:
    width = rule.clamp_width
    saturates = width is not None and (isinstance(step, Sign) or width == 1)
    return saturates and operands.rounded is None


def _bell(step: Step, operands: Operands, height: float, steepness: float) -> Shortcut:
    # Behind a gate it does not matter what the units would let through.
    units = ungated(step)

    def through(x: Tensor, grad: Tensor, out: Tensor, factor: float) -> None:
        _ring(step, x, units.free_unit(x, operands), steepness, grad, out)
        out.mul_(factor)

    return Shortcut(
        passage=partial(through, factor=height * step.gain(operands)),
        slope=partial(through, factor=height),
    )


def _bell_at(
    step: Integers, operands: Operands, height: float, steepness: float
) -> Callable[[Tensor, Tensor, Tensor, Tensor], Any]:
    middle, half = (operands.lo + operands.hi) / 2, (operands.hi - operands.lo + 1) / 2
    # The quotient by a power of two can be left to the steepness, to the same bits.
    is_exact = math.frexp(half)[0] == 0.5
    steeper = steepness / half if is_exact else steepness

    def passage(x: Tensor, v: Tensor, grad: Tensor, out: Tensor) -> None:
        unit = v - middle
        _ring(step, x, unit if is_exact else unit.div_(half), steeper, grad, out)
        out.mul_(height)

    return passage


def _ring(step: Step, x: Tensor, unit: Tensor, steepness: float, grad: Tensor, out: Tensor) -> None:
    """Gradient times ``σ'(k·u)`` behind the ReLU, where there is one; overwrites the unit."""
    falling = unit.abs_().mul_(-steepness).sigmoid_()
    aten.sigmoid_backward.grad_input(grad, falling, grad_input=out)
    if step.relu:
        aten.threshold_backward.grad_input(out, x, 0, grad_input=out)


def _within(step: Step, operands: Operands, below: float, above: float) -> Shortcut:
    # Integers multiply by the scale and divide by it, to the bits of stock Brevitas.
    factor = operands.scale if isinstance(step, Integers) else step.gain(operands)
    is_factor_one = float(factor) == 1

    def slope(x: Tensor, grad: Tensor, out: Tensor) -> None:
        aten.hardtanh_backward.grad_input(grad, x, below, above, grad_input=out)

    def passage(x: Tensor, grad: Tensor, out: Tensor) -> None:
        slope(x, grad if is_factor_one else step.enter(grad, operands, out), out)
        if not is_factor_one:
            step.leave(out, operands, out)

    return Shortcut(passage, slope)


@lru_cache(maxsize=4096)
def _band(
    step: Step, rule: Rule, dtype: torch.dtype, *values: float | None
) -> tuple[float, float] | None:
    """The largest input below those at which a saturated rule passes, and the smallest above.

    Found among the neighbours of where they lie in exact arithmetic, by the step's own formula, so
    that its roundings are in it; None where they are not there.
    """
    operands = Operands(
        *(None if each is None else torch.tensor(each, dtype=dtype) for each in values)
    )
    edges = torch.tensor(step.edges(operands, rule.clamp_width or 1.0), dtype=dtype)
    if isinstance(step, PaperStaircase):
        # It compares its input itself with 0 and 1.
        below, above = torch.nextafter(edges, edges.new_tensor([-torch.inf, torch.inf])).tolist()
        return below, above
    normal = torch.finfo(dtype).smallest_normal
    if ((edges != 0) & (edges.abs() < 16 * normal)).any():
        # Too few floats lie between it and zero.
        return None
    near = torch.arange(-NEIGHBOURS, NEIGHBOURS + 1)
    steps = (edges[:, None].view(INTEGERS_OF[dtype]) + near).to(INTEGERS_OF[dtype]).view(dtype)
    least = torch.nextafter(edges.new_tensor(0.0), edges.new_tensor(1.0))
    around = torch.where(edges[:, None] == 0, near * least, steps)
    passes = ungated(step).slope(around, operands, rule, None) > 0
    if not (edges.isfinite().all() and passes.any(1).all() and (~passes).any(1).all()):
        return None
    below, above = around[0][~passes[0]].max().item(), around[1][~passes[1]].min().item()
    if around[0][passes[0]].min().item() < below or around[1][passes[1]].max().item() > above:
        return None
    return (max(below, 0.0) if step.relu else below), above
