"""Steps with operands of every kind, as the tests of the kernels take them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from brevitas_ftprop.kernels import Integers, Needs, Operands, PaperStaircase, Sign, Step, Ternary

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
SHAPE = (5, 3, 4, 7)
CHANNELS = torch.tensor([0.5, 1.0, 0.3])


@dataclass(frozen=True)
class Case:
    """A step and its operands, which lie in float32 until they are asked for."""

    step: Step
    scale: Tensor | None = None
    zero_point: Tensor | None = None
    lo: float | None = None
    hi: float | None = None

    def operands(self, dtype: torch.dtype = torch.float32) -> Operands:
        def tensor(value):
            return None if value is None else torch.as_tensor(value).to(dtype)

        return Operands(*map(tensor, (self.scale, self.zero_point, self.lo, self.hi)))

    @property
    def needs(self) -> Needs:
        """All that can be asked for."""
        has_zero_point = self.zero_point is not None
        return Needs(self.scale is not None, has_zero_point, has_zero_point)


def integers(form, scale, zero_point, lo, hi, rounding="round", relu=False):
    step = Integers(rounding, form, relu)
    return Case(step, torch.as_tensor(scale), torch.as_tensor(zero_point), lo, hi)


def cases(form):
    per_channel, per_row = CHANNELS.view(1, 3, 1, 1), torch.linspace(0.2, 1, 5).view(5, 1, 1, 1)
    found = {
        "ternary": Case(Ternary(0.5, form), torch.tensor(0.7)),
        "uint2": integers(form, 0.4, 0.0, 0.0, 3.0),
        "int3 shifted": integers(form, 0.25, 1.0, -4.0, 3.0),
        "int2 of one element": integers(form, torch.full((1, 1, 1, 1), 0.3), 0.0, -2.0, 1.0),
        "uint4 per channel": integers(form, per_channel, torch.zeros(1, 3, 1, 1), 0.0, 15.0),
        "int4 per row": integers(form, per_row, 0.0, -7.0, 7.0),
        "relu": integers(form, 0.4, 0.0, 0.0, 3.0, relu=True),
        "relu, shifted": integers(form, 0.25, 1.0, -4.0, 3.0, relu=True),
        "floor": integers(form, 0.4, 0.0, 0.0, 3.0, "floor"),
        "ceil": integers(form, 0.4, 0.0, 0.0, 3.0, "ceil"),
        "trunc": integers(form, 0.4, 0.0, -2.0, 1.0, "trunc"),
        "staircase3": Case(PaperStaircase(3, 1.0, form)),
        "staircase5": Case(PaperStaircase(5, 0.625, form)),
    }
    if form == "single":
        found["sign"] = Case(Sign(), torch.tensor(0.7))
        found["sign per channel"] = Case(Sign(), per_channel)
    return found


CASES = {
    f"{name}, {form}": case for form in ("single", "sum") for name, case in cases(form).items()
}


def edges(case: Case, dtype: torch.dtype) -> Tensor:
    """±0, kinks and ties to the ulp, ±max, denormals, infinities and NaN."""
    scale = 1.0 if case.scale is None else float(case.scale.flatten()[0])
    points = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.5, 1 / 3, 0.75], dtype=dtype) * scale
    points = torch.cat([points, torch.tensor([0.25, 0.5, 0.75, 1.0, 2.0], dtype=dtype)])
    limits = torch.finfo(dtype)
    far = torch.tensor([limits.max, limits.tiny, limits.smallest_normal / 2, 30.0], dtype=dtype)
    up = torch.nextafter(points, torch.full_like(points, torch.inf))
    down = torch.nextafter(points, torch.full_like(points, -torch.inf))
    beyond = torch.tensor([torch.inf, torch.nan], dtype=dtype)
    values = torch.cat([points, up, down, far, beyond])
    return torch.cat([values, -values])


def inputs(case: Case, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    """An input with all edges among ordinary values, and a gradient with zeros; of SHAPE."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(SHAPE, generator=generator).mul_(1.5).to(dtype)
    at_edges = edges(case, dtype)
    x.view(-1)[: len(at_edges)] = at_edges
    grad = torch.randn(SHAPE, generator=generator).to(dtype)
    grad.view(-1)[::5] = 0
    return x, grad
