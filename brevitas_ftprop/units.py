"""A quantizer's elements as the units of target propagation: pre-activation, level, gradient.

Formulas are those of :mod:`brevitas_ftprop.ops`, for stock quantizers those of the rule that equals
them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from brevitas.core.function_wrapper import TensorClamp
from brevitas.core.quant import TernaryQuant
from torch import Tensor

from .core import is_integer_quantizer, rule_holder, step_of
from .kernels import Asked, Integers, Needs, Operands, PaperStaircase, Step, Ternary, backward
from .rules import Rule, get_rule
from .targets import sign_target, weighted_sign


@dataclass(frozen=True)
class Units:
    """The elements that one call of a quantizer saw, in the terms of their rule.

    Attributes:
        step: the quantization step.
        x: its input.
        operands: its scale and so on.
        rule: the target rule, for stock quantizers the one with the same gradient.
        weighting: ``"grad"`` or ``"mean"``.
        middle: the level at the middle of the range.
        gain: levels for a change of the rule's estimator by 1.
    """

    step: Step
    x: Tensor
    operands: Operands
    rule: Rule
    weighting: str
    middle: float = 0.0
    gain: float = 1.0

    @cached_property
    def z(self) -> Tensor:
        """Pre-activation of the unit that spans the quantizer's whole range; its sign says in which
        half of the range the output is.
        """
        return self.step.unit(self.x, self.operands)

    @property
    def level(self) -> Tensor:
        """The output in steps of one level, 0 at the middle of the range (±1 for sign)."""
        return self.step.level(self.x, self.operands) - self.middle

    def passed(self, grad: Tensor, weighting: str | None = None) -> Tensor:
        """Gradient that leaves the quantizer where ``grad`` enters."""
        return backward(
            self.step,
            grad,
            self.x,
            self.operands,
            self.rule,
            Asked(weighting or self.weighting, Needs(), grad.shape[0]),
        ).x

    def estimated_level(self, target: Tensor) -> Tensor:
        """The continuous function whose derivative the rule passes off as the quantizer's."""
        total, zero = None, self.rule.loss(self.x.new_zeros(()))
        for z in self._steps():
            if self.rule.even:
                step = zero - self.rule.loss(z)
            else:
                step = target * (zero - self.rule.loss(target * z))
            total = step if total is None else total + step
        assert total is not None
        return total if self.gain == 1 else total * self.gain

    def layer_loss(self, grad: Tensor) -> Tensor:
        """Loss of each unit, w·(ℓ(t·z) − ℓ(0)) for sign, that falls where :meth:`passed` leads.

        Its derivative by the input, where the target stays, is what the rule passes of ``grad``,
        which says target and weight in one (``-w·t``). Convex in the pre-activation for convex ℓ.

        Args:
            grad: gradient of the output, or what stands for it; of the shape of the input.

        >>> from brevitas_ftprop.kernels import Sign
        >>> z, scale = torch.tensor([0.5]), torch.tensor(1.0)
        >>> units = Units(Sign(), z, Operands(scale), get_rule("hinge"), "grad")
        >>> units.layer_loss(torch.tensor([-3.0])), units.layer_loss(torch.tensor([3.0]))
        (tensor([-1.5000]), tensor([1.5000]))
        """
        return self.loss_of(self.weight(grad))

    def loss_of(self, weight: Tensor) -> Tensor:
        """:meth:`layer_loss`, of the :meth:`weight` that it gives the units."""
        return weight * self.estimated_level(weight if self.rule.even else sign_target(weight))

    def layer_curvature(self, grad: Tensor) -> Tensor:
        """Second derivative of :meth:`layer_loss` by the input, the target held.

        It is 0 for losses in pieces of straight lines; at a kink it is that of the piece that
        autograd takes.

        >>> from brevitas_ftprop.kernels import Sign
        >>> z, scale = torch.tensor([0.5]), torch.tensor(1.0)
        >>> units = Units(Sign(), z, Operands(scale), get_rule("square"), "grad")
        >>> units.layer_curvature(torch.tensor([-3.0]))
        tensor([6.])
        """
        weight, total = self.weight(grad), torch.zeros_like(self.x)
        target = None if self.rule.even else sign_target(weight)
        for z in self._steps():
            if target is None:
                total += self.rule.curvature(z)
            else:
                total += target * self.rule.curvature(target * z)
        # The estimator is minus the sum of the losses.
        total.mul_(weight).mul_(self._tilt().square() * -self.gain)
        gate = self.step.gate(self.x)
        return total if gate is None else total.mul_(gate)

    def weight(self, grad: Tensor) -> Tensor:
        """What the units' losses are multiplied by, with the sign of the gradient."""
        grad = weighted_sign(grad, self.weighting, grad.shape[0] if grad.dim() else 1)
        level = (
            1 / self.step.steps if isinstance(self.step, PaperStaircase) else self.operands.scale
        )
        return grad * self.step.gain(self.operands) * level

    def _tilt(self) -> Tensor:
        """Derivative of the pre-activations by the input, where no ReLU blocks it."""
        scale = self.operands.scale
        shape = () if scale is None else scale.shape
        one = torch.ones(shape, dtype=self.x.dtype, device=self.x.device, requires_grad=True)
        step = self.step
        with torch.enable_grad():
            value = step.free_unit if step.form == "single" else step.scaled
            return torch.autograd.grad(value(one, self.operands).sum(), one)[0]

    def _steps(self) -> Iterator[Tensor]:
        if self.step.form == "single":
            # By its formula alone, through which a gradient can go.
            yield self.step.free_unit(self.x, self.operands)
        else:
            v = self.step.scaled(self.x, self.operands)
            yield from (v - threshold for threshold in self.step.thresholds(self.operands))


class _OutsideTheDeadZone(Rule):
    """The gradient of stock ``TernaryQuant``, which is no target rule; |z| = 1/3 at its steps."""

    name = "stock_ternary"
    even = True

    def loss(self, m: Tensor) -> Tensor:
        return -torch.sign(m) * (m.abs() - 1 / 3).clamp(min=0)

    def slope(self, m: Tensor) -> Tensor:
        return (m.abs() > 1 / 3).to(m.dtype)


def activation_before(proxy: Any) -> torch.nn.Module | None:
    """The activation function in a quantizer's own layer, such as a ReLU; None without one.

    >>> from brevitas.nn import QuantReLU
    >>> activation_before(QuantReLU().act_quant)
    ReLU()
    """
    fused = getattr(proxy, "fused_activation_quant_proxy", None)
    act = getattr(fused, "activation_impl", None)
    return None if isinstance(act, torch.nn.Identity) else act


def reason_not_to_watch(quant: Any) -> str | None:
    """Why a tensor-quant module has no units that are known here, None if it has.

    >>> reason_not_to_watch(torch.nn.Identity())
    'Identity has no units: only binary, ternary, staircase and integer quantizers do'
    """
    if step_of(quant) is not None:
        return None
    holder = rule_holder(quant)
    if is_integer_quantizer(quant):
        return f"its rounding, {type(holder.float_to_int_impl).__name__}, is not known"
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
    >>> from brevitas_ftprop.core import TargetPropBinaryQuant
    >>> quant = TargetPropBinaryQuant(ConstScaling(0.5), rule="saturated_ste")
    >>> x = torch.tensor([-1.0, 0.25])
    >>> units = units_of(quant, x, torch.tensor(0.5), torch.tensor(0.0), torch.tensor(1.0))
    >>> units.z.tolist(), units.level.tolist(), units.passed(torch.ones(2)).tolist()
    ([-2.0, 0.5], [-1.0, 1.0], [0.0, 0.5])
    """
    holder, step = rule_holder(quant), step_of(quant)
    operands, middle, gain = Operands(scale), 0.0, 1.0
    match step:
        case Ternary(threshold):
            gain = threshold * (1 if step.form == "sum" else 3)
        case PaperStaircase(steps):
            operands, middle = Operands(), steps / 2
            gain = 1.0 if step.form == "sum" else middle
        case Integers():
            lo, hi = holder.min_int(bit_width), holder.max_int(bit_width)
            operands, middle = Operands(scale, zero_point, lo, hi), float(lo + hi) / 2
            gain = 0.5 if step.form == "sum" else float(hi - lo + 1) / 2
    assert step is not None
    weighting = getattr(holder, "weighting", "grad")
    return Units(step, x, operands, _rule_of(holder), weighting, middle, gain)


def _rule_of(holder: Any) -> Rule:
    spec = getattr(holder, "rule", None)
    if spec is not None:
        return get_rule(spec)
    if isinstance(holder, TernaryQuant):
        return _OutsideTheDeadZone()
    clamps = type(getattr(holder, "tensor_clamp_impl", None)) is TensorClamp
    return get_rule("saturated_ste" if clamps else "ste")
