"""The registered quantization steps."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from .step import Number, Operands, Step, is_zero, number
from .step_specs import register_step

ROUNDING_FUNCTIONS = {
    "round": torch.round,
    "ceil": torch.ceil,
    "floor": torch.floor,
    "trunc": torch.trunc,
}


@register_step
@dataclass(frozen=True)
class Sign(Step):
    """``y = s·sign(x)`` with sign(±0) = +1; one unit ``z = x/s``."""

    name = "sign"

    def output(self, x: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        if out is None:
            return super().output(x, operands)
        scale = number(operands.scale)
        if isinstance(scale, float) and 2 * scale <= torch.finfo(out.dtype).max:
            # -s plus 0 or 2s: the same, since all is exact, in fewer passes.
            above = torch.ge(x, 0, out=out)
            return torch.add(-operands.scale, above, alpha=2 * scale, out=out)
        return super().output(x, operands, out)

    def level(self, x: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        above = x.clone().ge_(0) if out is None else torch.ge(x, 0, out=out)
        return above.mul_(2).sub_(1)

    def free_unit(self, x: Tensor, operands: Operands) -> Tensor:
        return x / operands.scale

    def edges(self, operands: Operands, width: float) -> tuple[float, float]:
        end = width * float(operands.scale)
        return -end, end


@register_step
@dataclass(frozen=True)
class Ternary(Step):
    """``y = s·sign(x)·[|x| > θ·s]``; in v = x/(2θs) its thresholds lie at ±½, as integers' do."""

    threshold: float
    form: str
    name = "ternary"

    def level(self, x: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        return x.abs().gt_(self.threshold * operands.scale) * torch.sign(x)

    def free_unit(self, x: Tensor, operands: Operands) -> Tensor:
        # A CUDA device makes a product of what is divided by a number, a CPU does not.
        return self.scaled(x, operands) * (1 / 1.5)

    def edges(self, operands: Operands, width: float) -> tuple[float, float]:
        end = 1.5 * width * 2 * self.threshold * float(operands.scale)
        return -end, end

    def scaled(self, x: Tensor, operands: Operands) -> Tensor:
        return x / operands.scale * (0.5 / self.threshold)

    def thresholds(self, operands: Operands) -> list[float]:
        return [-0.5, 0.5]

    def count(self, operands: Operands) -> Number:
        return 2 if self.form == "sum" else 1


@register_step
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
    # By one of the caller's own, what is rounded comes with the operands.
    choices: ClassVar = {**Step.choices, "rounding": (*ROUNDING_FUNCTIONS, "own")}

    def from_zero(self, x: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        level, zero_point = self.level(x, operands, out), number(operands.zero_point)
        return level if is_zero(zero_point) else level - zero_point

    def from_zero_at(self, v: Tensor, operands: Operands, out: Tensor) -> Tensor:
        """:meth:`from_zero` of ``v = x/s + z``, written to ``out``, which may be ``v`` itself."""
        (lo, hi), zero_point = self._bounds(operands), number(operands.zero_point)
        if self.relu and not (lo >= 0 and is_zero(zero_point)):
            v = torch.clamp(v, min=zero_point, out=out)
        level = ROUNDING_FUNCTIONS[self.rounding](v, out=out).clamp_(lo, hi)
        return level if is_zero(zero_point) else level.sub_(zero_point)

    def level(self, x: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        lo, hi = self._bounds(operands)
        if isinstance(lo, float) and lo >= 0 and is_zero(number(operands.zero_point)):
            # Clipping does what the ReLU would.
            return self._round(self.position(x, operands, out), operands).clamp_(lo, hi)
        return self.rounded(x, operands, out).clamp_(lo, hi)

    def rounded(self, x: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        """The integer before it is clipped, a tensor of its own or ``out``."""
        return self._round(self.scaled(x, operands, out), operands)

    def _round(self, v: Tensor, operands: Operands) -> Tensor:
        if operands.rounded is not None:
            return operands.rounded.clone()
        return getattr(v, f"{self.rounding}_")()

    def _bounds(self, operands: Operands) -> tuple[Number, Number]:
        return number(operands.lo), number(operands.hi)

    def scaled(self, x: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        return self.position(x.clamp(min=0) if self.relu else x, operands, out)

    def position(self, x: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        """``v = x/s + z``, the ReLU left aside."""
        v, zero_point = torch.div(x, operands.scale, out=out), number(operands.zero_point)
        return v if is_zero(zero_point) else v + zero_point

    def free_unit(self, x: Tensor, operands: Operands) -> Tensor:
        lo, hi = self._bounds(operands)
        v, width = self.scaled(x, operands), (hi - lo + 1) / 2
        if isinstance(width, float) and v.device.type != "cpu":
            # Divided by a number, it would be multiplied by the number's inverse there.
            width = v.new_full((), width)
        return v.sub_((lo + hi) / 2).div_(width)

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

    def gain(self, operands: Operands) -> Number:
        return 1.0

    # In stock Brevitas' order of operations, so that the gradients are the same to the bit.
    def enter(self, grad: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        return torch.mul(grad, operands.scale, out=out)

    def leave(self, passed: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        return torch.div(passed, operands.scale, out=out)


@register_step
@dataclass(frozen=True)
class PaperStaircase(Step):
    """``y = M·clamp(ceil(x·(n-1)), 0, n)/n``; thresholds k/(n-1), one unit ``u = 2x - 1``."""

    steps: int
    max_val: float
    form: str
    name = "staircase"

    def output(self, x: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        return torch.mul(self.level(x, operands, out), self.max_val / self.steps, out=out)

    def level(self, x: Tensor, operands: Operands, out: Tensor | None = None) -> Tensor:
        return torch.mul(x, self.steps - 1, out=out).ceil_().clamp_(0, self.steps)

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
