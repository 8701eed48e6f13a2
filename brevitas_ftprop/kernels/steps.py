"""The quantization steps: what each computes forwards, and where its units stand backwards.

A step is elementwise and linear in the incoming gradient: the gradient that leaves it is the
entering one times a *total slope*, a function of the input alone (and, for rules that are not even,
of the target's sign). Every backend computes these formulas, each in its own way.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor

from ..rules import Rule, saturate

__all__ = [
    "ROUNDING_FUNCTIONS",
    "STAIRCASE_FORMS",
    "Integers",
    "Operands",
    "PaperStaircase",
    "Sign",
    "Step",
    "Ternary",
    "parse_step",
    "ungated",
]

STAIRCASE_FORMS = ("single", "sum")
ROUNDING_FUNCTIONS = {
    "round": torch.round,
    "ceil": torch.ceil,
    "floor": torch.floor,
    "trunc": torch.trunc,
}
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
            if operand is not None:
                dtype = torch.promote_types(dtype, torch.result_type(x, operand))
        return dtype


def _number(tensor: Tensor) -> Number:
    # Plain numbers are several times as fast on a CPU; elsewhere reading one waits for the device.
    if tensor.device.type != "cpu" or tensor.dim() or torch.compiler.is_compiling():
        return tensor
    return float(tensor)


def _is_zero(number: Number) -> bool:
    return isinstance(number, float) and number == 0


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
    """

    name: ClassVar[str]
    form: str = "single"
    relu: bool = False

    @property
    def spec(self) -> str:
        """String that :func:`parse_step` turns into this step: steps cross operators as such."""
        return ":".join([self.name, *map(str, vars(self).values())])

    def output(self, x: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        """The quantized value of ``x``, written to ``out`` where that is given."""
        return torch.mul(self.level(x, operands), operands.scale, out=out)

    def level(self, x: Tensor, operands: Operands) -> Tensor:
        """The integer that ``x`` is quantized to."""
        raise NotImplementedError

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
        """Share of the sum that one unit contributes."""
        return 1.0

    def gain(self, operands: Operands) -> Number:
        """What the total slope is multiplied by on the whole: ``∂y/∂x`` where the slope is 1."""
        return _number(operands.scale)

    def enter(self, grad: Tensor, operands: Operands) -> Tensor:
        """Gradient of the units' outputs, from that of ``y``."""
        return grad

    def leave(self, passed: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        """Gradient of ``x``, from what the units passed."""
        return torch.mul(passed, operands.scale, out=out)


@dataclass(frozen=True)
class Sign(Step):
    """``y = s·sign(x)`` with sign(±0) = +1; one unit ``z = x/s``."""

    name = "sign"

    def output(self, x: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        if out is None:
            return super().output(x, operands)
        # -s plus 0 or 2s: the same, since all is exact, in fewer passes.
        scale, above = _number(operands.scale), torch.ge(x, 0, out=out)
        if isinstance(scale, float):
            return torch.add(-operands.scale, above, alpha=2 * scale, out=out)
        return above.mul_(2 * scale).sub_(scale)

    def level(self, x: Tensor, operands: Operands) -> Tensor:
        return x.clone().ge_(0).mul_(2).sub_(1)

    def free_unit(self, x: Tensor, operands: Operands) -> Tensor:
        return x / operands.scale

    def edges(self, operands: Operands, width: float) -> tuple[float, float]:
        end = width * float(operands.scale)
        return -end, end


@dataclass(frozen=True)
class Ternary(Step):
    """``y = s·sign(x)·[|x| > θ·s]``; in v = x/(2θs) its thresholds lie at ±½, as integers' do."""

    threshold: float
    form: str
    name = "ternary"

    def level(self, x: Tensor, operands: Operands) -> Tensor:
        return x.abs().gt_(self.threshold * operands.scale) * torch.sign(x)

    def free_unit(self, x: Tensor, operands: Operands) -> Tensor:
        return self.scaled(x, operands) / 1.5

    def edges(self, operands: Operands, width: float) -> tuple[float, float]:
        end = 1.5 * width * 2 * self.threshold * float(operands.scale)
        return -end, end

    def scaled(self, x: Tensor, operands: Operands) -> Tensor:
        return x / operands.scale * (0.5 / self.threshold)

    def thresholds(self, operands: Operands) -> list[float]:
        return [-0.5, 0.5]

    def count(self, operands: Operands) -> Number:
        return 2 if self.form == "sum" else 1

    @property
    def share(self) -> float:
        return 0.5 if self.form == "sum" else 1.0


@dataclass(frozen=True)
class Integers(Step):
    """``y = (clamp(round(x/s + z), lo, hi) - z)·s``; thresholds lo+½ … hi-½ in v = x/s + z.

    The one unit over the whole range is ``u = (v - (lo + hi)/2)/((hi - lo + 1)/2)``. With ``relu``,
    max(x, 0) takes the place of x.
    """

    rounding: str
    form: str
    relu: bool = False
    name = "integers"

    def output(self, x: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        level = self.level(x, operands)
        zero_point = _number(operands.zero_point)
        if not _is_zero(zero_point):
            level = level - zero_point
        return torch.mul(level, operands.scale, out=out)

    def level(self, x: Tensor, operands: Operands) -> Tensor:
        lo, hi = self._bounds(operands)
        if isinstance(lo, float) and lo >= 0 and _is_zero(_number(operands.zero_point)):
            # Clipping does what the ReLU would.
            return self._round(self._affine(x, operands), operands).clamp_(lo, hi)
        return self.rounded(x, operands).clamp_(lo, hi)

    def rounded(self, x: Tensor, operands: Operands) -> Tensor:
        """The integer before it is clipped, a tensor of its own."""
        return self._round(self.scaled(x, operands), operands)

    def _round(self, v: Tensor, operands: Operands) -> Tensor:
        if operands.rounded is not None:
            return operands.rounded.clone()
        return getattr(v, f"{self.rounding}_")()

    def _bounds(self, operands: Operands) -> tuple[Number, Number]:
        return _number(operands.lo), _number(operands.hi)

    def scaled(self, x: Tensor, operands: Operands) -> Tensor:
        return self._affine(x.clamp(min=0) if self.relu else x, operands)

    def _affine(self, x: Tensor, operands: Operands) -> Tensor:
        v, zero_point = x / operands.scale, _number(operands.zero_point)
        return v if _is_zero(zero_point) else v + zero_point

    def free_unit(self, x: Tensor, operands: Operands) -> Tensor:
        lo, hi = self._bounds(operands)
        v = self.scaled(x, operands)
        return v.sub_((lo + hi) / 2).div_((hi - lo + 1) / 2)

    def edges(self, operands: Operands, width: float) -> tuple[float, float]:
        lo, hi, zero_point = map(float, (operands.lo, operands.hi, operands.zero_point))
        scale, margin = float(operands.scale), {"ceil": (1, 0), "floor": (0, 1), "trunc": (1, 1)}
        down, up = margin.get(self.rounding, (0.5, 0.5))
        return (lo - down - zero_point) * scale, (hi + up - zero_point) * scale

    def _clipped(self, x: Tensor, operands: Operands) -> tuple[Tensor, Tensor] | None:
        lo, hi = self._bounds(operands)
        rounded = self.rounded(x, operands)
        return rounded, rounded.clamp(lo, hi)

    def thresholds(self, operands: Operands) -> list[float]:
        lo, hi = self._bounds(operands)
        return [k + 0.5 for k in range(int(lo), int(hi))]

    def count(self, operands: Operands) -> Number:
        lo, hi = self._bounds(operands)
        return hi - lo if self.form == "sum" else 1

    @property
    def share(self) -> float:
        return 0.5 if self.form == "sum" else 1.0

    def gain(self, operands: Operands) -> Number:
        return 1.0

    # In stock Brevitas' order of operations, so that the gradients are the same to the bit.
    def enter(self, grad: Tensor, operands: Operands) -> Tensor:
        return grad * operands.scale

    def leave(self, passed: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        return torch.div(passed, operands.scale, out=out)


@dataclass(frozen=True)
class PaperStaircase(Step):
    """``y = M·clamp(ceil(x·(n-1)), 0, n)/n``; thresholds k/(n-1), one unit ``u = 2x - 1``."""

    steps: int
    max_val: float
    form: str
    name = "staircase"

    def output(self, x: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        return torch.mul(self.level(x, operands), self.max_val / self.steps, out=out)

    def level(self, x: Tensor, operands: Operands) -> Tensor:
        return (x * (self.steps - 1)).ceil_().clamp_(0, self.steps)

    def scaled(self, x: Tensor, operands: Operands) -> Tensor:
        return x

    def free_unit(self, x: Tensor, operands: Operands) -> Tensor:
        return (2 * x).sub_(1)

    def edges(self, operands: Operands, width: float) -> tuple[float, float]:
        return 0.0, 1.0

    def _clipped(self, x: Tensor, operands: Operands) -> tuple[Tensor, Tensor] | None:
        return x, x.clamp(0, 1)

    def thresholds(self, operands: Operands) -> list[float]:
        return [k / (self.steps - 1) for k in range(self.steps)]

    def count(self, operands: Operands) -> Number:
        return self.steps if self.form == "sum" else 1

    @property
    def share(self) -> float:
        return 1 / self.steps if self.form == "sum" else 1.0

    def gain(self, operands: Operands) -> Number:
        return self.max_val

    def leave(self, passed: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        return torch.mul(passed, self.max_val, out=out)


def ungated(step: Step) -> Step:
    """The step without the ReLU in front of it.

    >>> ungated(Integers("round", "single", relu=True))
    Integers(rounding='round', form='single', relu=False)
    """
    return replace(step, relu=False) if isinstance(step, Integers) else step


@lru_cache(maxsize=1024)
def parse_step(spec: str) -> Step:
    """The step that a spec stands for.

    >>> parse_step("staircase:3:1.0:sum")
    PaperStaircase(steps=3, max_val=1.0, form='sum')
    """
    name, *options = spec.split(":")
    if name == "sign":
        return Sign()
    if name == "ternary":
        return Ternary(float(options[0]), options[1])
    if name == "integers":
        return Integers(options[0], options[1], options[2] == "True")
    return PaperStaircase(int(options[0]), float(options[1]), options[2])
