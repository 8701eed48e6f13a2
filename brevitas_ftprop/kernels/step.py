"""What a quantization step is to a backend: what it computes forwards, where its units stand
backwards.

A step is elementwise and linear in the incoming gradient: the gradient that leaves it is the
entering one times a *total slope*, a function of the input alone (and, for rules that are not even,
of the target's sign). Every backend computes these formulas, each in its own way.
"""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor

from ..rules import Rule, saturate

STAIRCASE_FORMS = ("single", "sum")
# A plain number, or a tensor that stands for one.
Number: TypeAlias = Any


class Operands(NamedTuple):
    """What a step computes with beside its input; None where it has no use for it.

    Attributes:
        scale: positive, broadcastable to the input.
        zero_point: of an integer quantizer, broadcastable to the input.
        lo, hi: smallest and largest integer, 0-dimensional.
        rounded: ``x/scale + zero_point`` as a rounding of the caller's own rounds it.
    """

    # None or a tensor, depending on the step, which no type checker can follow.
    scale: Any = None
    zero_point: Any = None
    lo: Any = None
    hi: Any = None
    rounded: Any = None

    def result_type(self, x: Tensor) -> torch.dtype:
        """Dtype of a step's output."""
        dtype = x.dtype
        for operand in (self.scale, self.zero_point):
            if operand is not None and operand.dtype != dtype:
                dtype = torch.promote_types(dtype, torch.result_type(x, operand))
        return dtype

    def with_numbers(self) -> "Operands":
        """Zero-point and bounds as :func:`number` has them, read once instead of at each use."""
        scale, zero_point, lo, hi, rounded = self
        if zero_point is None:
            return self
        return Operands(scale, number(zero_point), number(lo), number(hi), rounded)


def number(tensor: Number) -> Number:
    """A tensor of one element as backends compute with it fastest."""
    if isinstance(tensor, float):
        return tensor
    # Plain numbers are several times as fast on a CPU; elsewhere reading one waits for the device.
    if tensor.dim() or not tensor.is_cpu or torch.compiler.is_compiling():
        return tensor
    if type(tensor) not in (Tensor, torch.nn.Parameter):
        # One that a compiler traces with has no value.
        return tensor
    return float(tensor)


def is_zero(value: Number) -> bool:
    """Whether a :func:`number` is known to be 0."""
    return isinstance(value, float) and value == 0


def unit_slope(z: Tensor, rule: Rule, target: Number) -> Tensor:
    """Slope of one unit, ``-l'(t·z)``; ``target`` is not used where the rule is even."""
    # A pre-activation that its scale took beyond the dtype must not meet a target of 0 as inf.
    return rule.slope(z if rule.even else saturate(z) * target)


def _clip_margin(u: Tensor, position: Tensor, within: Tensor) -> Tensor:
    """Pre-activation of the one unit that spans a staircase's whole range, |u| ≤ 1 inside it.

    Whether a unit is outside is settled by the forward pass's own clipping (of ``position`` to
    ``within``), not by the float errors of the formula for ``u`` (which would, for one, misplace
    rounding ties). Written without selections, which are ten times as slow as arithmetic on a CPU.
    """
    side = torch.sign(position - within)
    beyond = u.abs().clamp_(min=1 + torch.finfo(u.dtype).eps).mul_(side)
    return u.clamp(-1, 1).mul_(side.abs_().neg_().add_(1)).add_(beyond)


class Step:
    """An elementwise quantization step ``y = step(x)`` and the total slope of its units.

    Attributes:
        name: of its :attr:`spec`.
        form: ``"single"`` or ``"sum"``.
        relu: whether the step begins with a ReLU.
        choices: the values that a field may have, where they can be listed.
    """

    name: ClassVar[str]
    choices: ClassVar[Mapping[str, Collection[str]]] = {"form": STAIRCASE_FORMS}
    __match_args__: ClassVar[tuple[str, ...]]
    form: str = "single"
    relu: bool = False

    @property
    def spec(self) -> str:
        """String that :func:`.parse_step` turns into this step: steps cross operators as such."""
        # Not vars(self), which torch 2.11 cannot compile.
        fields = [str(getattr(self, field)) for field in self.__match_args__]
        return ":".join([self.name, *fields])

    def output(self, x: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        """The quantized value of ``x``, written to ``out`` where that is given."""
        return torch.mul(self.from_zero(x, operands, out), operands.scale, out=out)

    def level(self, x: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        """The integer that ``x`` is quantized to; ``out`` is overwritten where that is faster."""
        raise NotImplementedError

    def from_zero(self, x: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        """The integer's distance from the zero-point, by way of ``out`` as in :meth:`level`."""
        return self.level(x, operands, out)

    def slope(self, x: Tensor, operands: Operands, rule: Rule, target: Number) -> Tensor:
        """Total slope of the units at ``x`` for the target(s) given, the gate left aside."""
        if self.form == "sum":
            # One threshold at a time: memory must not grow with the number of levels.
            v = self.scaled(x, operands)
            total = torch.zeros_like(v)
            for threshold in self.thresholds(operands):
                total += unit_slope(v - threshold, rule, target)
            return saturate(total).mul_(self.share)
        if not rule.kinks:
            return unit_slope(self.free_unit(x, operands), rule, target)
        if rule.clamp_width == 1:
            # The saturated rule passes inside the range, and nothing else counts.
            clipped = self._clipped(x, operands)
            if clipped is not None:
                position, within = clipped
                return within.eq_(position)
        return unit_slope(self.unit(x, operands), rule, target)

    def gate(self, x: Tensor) -> Tensor | None:
        """0 where the ReLU in front blocks the gradient, else 1; None without one."""
        return x.clone().le_(0).eq_(0) if self.relu else None

    def unit(self, x: Tensor, operands: Operands) -> Tensor:
        """Pre-activation of the one unit over the whole range, |u| ≤ 1 exactly inside it."""
        u, clipped = self.free_unit(x, operands), self._clipped(x, operands)
        return u if clipped is None else _clip_margin(u, *clipped)

    def free_unit(self, x: Tensor, operands: Operands) -> Tensor:
        """:meth:`unit` by its formula alone, a tensor of its own: enough where no slope jumps."""
        raise NotImplementedError

    def edges(self, operands: Operands, width: float) -> tuple[float, float]:
        """Where a saturated rule begins and ceases to pass, but for rounding."""
        raise NotImplementedError

    def _clipped(self, x: Tensor, operands: Operands) -> tuple[Tensor, Tensor] | None:
        """What the step clips, and a tensor of its own with what it makes of it; None for one that
        clips nothing.
        """
        return None

    def scaled(self, x: Tensor, operands: Operands) -> Tensor:
        """``x`` in the units of the thresholds."""
        raise NotImplementedError

    def thresholds(self, operands: Operands) -> list[float]:
        """Where the steps of the sum stand."""
        raise NotImplementedError

    def count(self, operands: Operands) -> Number:
        """Number of units whose slopes are summed."""
        return 1

    @property
    def share(self) -> float:
        """Share of the sum that one unit contributes: a step is half a sign."""
        return 0.5 if self.form == "sum" else 1.0

    def gain(self, operands: Operands) -> Number:
        """What the total slope is multiplied by on the whole: ``∂y/∂x`` where the slope is 1."""
        return number(operands.scale)

    def enter(self, grad: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        """Gradient of the units' outputs, from that of ``y``."""
        return grad

    def leave(self, passed: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        """Gradient of ``x``, from what the units passed."""
        return torch.mul(passed, operands.scale, out=out)
