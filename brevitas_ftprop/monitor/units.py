"""A quantizer's elements as the units of target propagation: pre-activation, level, gradient.

Formulas are those of :mod:`brevitas_ftprop.ops`, for stock quantizers those of the rule that equals
them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from brevitas.core.function_wrapper import TensorClamp
from brevitas.core.quant import (
    BinaryQuant,
    ClampedBinaryQuant,
    IntQuant,
    RescalingIntQuant,
    TernaryQuant,
)
from torch import Tensor

from ..core import (
    TargetPropBinaryQuant,
    TargetPropIntQuant,
    TargetPropStaircaseQuant,
    TargetPropTernaryQuant,
)
from ..kernels import clip_margin, staircase_gradient, unit_gradient
from ..levels import ROUNDINGS
from ..proxy import rule_holder
from ..rules import Rule, get_rule

__all__ = ["Units", "reason_not_to_watch", "units_of"]


@dataclass(frozen=True)
class Units:
    """The elements that one call of a quantizer saw, in the terms of their rule.

    Attributes:
        rule: the target rule, for stock quantizers the one with the same gradient.
        weighting: ``"grad"`` or ``"mean"``.
        z: pre-activation of the unit that spans the quantizer's whole range; its sign says in which
            half of the range the output is.
        level: the output in steps of one level, 0 at the middle of the range (±1 for sign).
        gain: levels for a change of the rule's estimator by 1.
        factor: what multiplies the rule's gradient.
        v, thresholds, step: of the form ``staircase="sum"``, as
            :func:`~brevitas_ftprop.kernels.staircase_gradient` takes them; else None.
    """

    rule: Rule
    weighting: str
    z: Tensor
    level: Tensor
    gain: float | Tensor = 1.0
    factor: float | Tensor = 1.0
    v: Tensor | None = None
    thresholds: list[float] | None = None
    step: float = 1.0

    def passed(self, grad: Tensor, weighting: str | None = None) -> Tensor:
        """Gradient that leaves the quantizer where ``grad`` enters."""
        weighting = weighting or self.weighting
        if self.v is None or self.thresholds is None:
            passed = unit_gradient(grad, self.z, self.rule, weighting)
        else:
            passed = staircase_gradient(
                grad, self.v, self.thresholds, self.step, self.rule, weighting
            )
        return passed * self.factor

    def estimated_level(self, target: Tensor) -> Tensor:
        """The continuous function whose derivative the rule passes off as the quantizer's."""
        total = torch.zeros_like(self.z)
        for z in self._steps():
            if self.rule.even:
                total += self.rule.loss(torch.zeros_like(z)) - self.rule.loss(z)
            else:
                zero = torch.zeros_like(z)
                total += target * (self.rule.loss(zero) - self.rule.loss(target * z))
        return total * self.gain

    def _steps(self) -> Iterator[Tensor]:
        if self.v is None or self.thresholds is None:
            yield self.z
        else:
            yield from (self.v - threshold for threshold in self.thresholds)


class _OutsideTheDeadZone(Rule):
    """The gradient of stock ``TernaryQuant``, which is no target rule; |z| = 1/3 at its steps."""

    name = "stock_ternary"
    even = True

    def loss(self, m: Tensor) -> Tensor:
        return -torch.sign(m) * (m.abs() - 1 / 3).clamp(min=0)

    def slope(self, m: Tensor) -> Tensor:
        return (m.abs() > 1 / 3).to(m.dtype)


def reason_not_to_watch(quant: Any) -> str | None:
    """Why a tensor-quant module has no units that are known here, None if it has.

    >>> reason_not_to_watch(torch.nn.Identity())
    'Identity has no units: only binary, ternary, staircase and integer quantizers do'
    """
    holder = rule_holder(quant)
    if isinstance(
        quant,
        BinaryQuant
        | ClampedBinaryQuant
        | TernaryQuant
        | TargetPropBinaryQuant
        | TargetPropTernaryQuant
        | TargetPropStaircaseQuant,
    ):
        return None
    if type(quant) is RescalingIntQuant and type(holder) in (IntQuant, TargetPropIntQuant):
        rounding = type(holder.float_to_int_impl)
        return None if rounding in ROUNDINGS else f"its rounding, {rounding.__name__}, is not known"
    kind = type(holder).__name__
    return f"{kind} has no units: only binary, ternary, staircase and integer quantizers do"


def units_of(quant: Any, x: Tensor, scale: Tensor, zero_point: Tensor, bit_width: Tensor) -> Units:
    """Units of a tensor-quant module.

    Args:
        quant: a module for which :func:`reason_not_to_watch` gives None.
        x: its input, any shape with the batch in front.
        scale, zero_point: as it returned them, broadcastable to ``x``.
        bit_width: as it returned it.

    >>> from brevitas.core.scaling import ConstScaling
    >>> quant = TargetPropBinaryQuant(ConstScaling(0.5), rule="saturated_ste")
    >>> x = torch.tensor([-1.0, 0.25])
    >>> units = units_of(quant, x, torch.tensor(0.5), torch.tensor(0.0), torch.tensor(1.0))
    >>> units.z.tolist(), units.level.tolist(), units.passed(torch.ones(2)).tolist()
    ([-2.0, 0.5], [-1.0, 1.0], [0.0, 0.5])
    """
    holder = rule_holder(quant)
    rule, weighting = _rule_of(holder), getattr(holder, "weighting", "grad")
    is_sum = getattr(holder, "staircase", "single") == "sum"
    if isinstance(quant, BinaryQuant | ClampedBinaryQuant | TargetPropBinaryQuant):
        level = (x >= 0).to(x.dtype) * 2 - 1
        return Units(rule, weighting, x / scale, level, factor=scale)
    if isinstance(quant, TernaryQuant | TargetPropTernaryQuant):
        threshold = quant.threshold
        level = (x.abs() > threshold * scale).to(x.dtype) * torch.sign(x)
        v = x / scale * (0.5 / threshold)
        if is_sum:
            return Units(
                rule, weighting, v / 1.5, level, threshold, scale, v, [-0.5, 0.5], step=0.5
            )
        return Units(rule, weighting, v / 1.5, level, 3 * threshold, scale)
    if isinstance(quant, TargetPropStaircaseQuant):
        n, height = quant.steps, quant.max_val
        level = torch.ceil(x * (n - 1)).clamp(0, n) - n / 2
        u = clip_margin(2 * x - 1, x < 0, x > 1)
        if is_sum:
            thresholds = [k / (n - 1) for k in range(n)]
            return Units(rule, weighting, u, level, 1.0, height, x, thresholds, step=1 / n)
        return Units(rule, weighting, u, level, n / 2, height)
    v = x / scale + zero_point
    rounded = ROUNDINGS[type(holder.float_to_int_impl)](v)
    lo, hi = float(holder.min_int(bit_width)), float(holder.max_int(bit_width))
    level = rounded.clamp(lo, hi) - (lo + hi) / 2
    u = clip_margin((2 * v - lo - hi) / (hi - lo + 1), rounded < lo, rounded > hi)
    if is_sum:
        thresholds = [k + 0.5 for k in range(int(lo), int(hi))]
        return Units(rule, weighting, u, level, 0.5, 1.0, v, thresholds, step=0.5)
    return Units(rule, weighting, u, level, (hi - lo + 1) / 2)


def _rule_of(holder: Any) -> Rule:
    spec = getattr(holder, "rule", None)
    if spec is not None:
        return get_rule(spec)
    if isinstance(holder, TernaryQuant):
        return _OutsideTheDeadZone()
    clamps = type(getattr(holder, "tensor_clamp_impl", None)) is TensorClamp
    return get_rule("saturated_ste" if clamps else "ste")
