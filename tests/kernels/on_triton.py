"""What the tests of the Triton kernels share: where they run, and what they take for equal."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from brevitas_ftprop.kernels import (
    Gradients,
    Integers,
    Needs,
    Operands,
    PaperStaircase,
    Sign,
    Step,
    Ternary,
)
from brevitas_ftprop.kernels.backends import triton_backend
from brevitas_ftprop.rules import get_rule

DEVICE = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
REASON = triton_backend.reason_against(DEVICE, Sign(), Operands(), get_rule("ste"))
needs_kernels = pytest.mark.skipif(REASON is not None, reason=f"no Triton kernels here: {REASON}")
# The interpreter computes in NumPy, which speaks of the infinities that the tests are about.
silent = pytest.mark.filterwarnings("ignore::RuntimeWarning")

# Of a smooth slope, relative to its largest value: a few roundings of eager's, which rounds every
# operation to the dtype where the kernels round the slope alone.
TOLERANCE = {torch.float64: 1e-14, torch.float32: 2e-6, torch.bfloat16: 6e-2, torch.float16: 6e-3}
STEPS = (
    Sign(),
    Ternary(0.5, "single"),
    Ternary(0.7, "sum"),
    Integers("round", "single"),
    Integers("round", "sum"),
    Integers("ceil", "single", relu=True),
    Integers("floor", "sum", relu=True),
    PaperStaircase(3, 1.5, "single"),
    PaperStaircase(5, 1.0, "sum"),
)


def number(value: float, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(value, dtype=dtype, device=DEVICE)


def operands_of(step: Step, scale: Tensor | None = None, zero_point: Tensor | None = None):
    if isinstance(step, PaperStaircase):
        return Operands()
    scale = number(0.3) if scale is None else scale
    if not isinstance(step, Integers):
        return Operands(scale)
    zero_point = number(1.0) if zero_point is None else zero_point
    return Operands(scale, zero_point, number(-1.0), number(3.0))


def needs_of(step: Step) -> Needs:
    return Needs(not isinstance(step, PaperStaircase), *(isinstance(step, Integers),) * 2)


def edges(dtype: torch.dtype) -> Tensor:
    """Kinks, thresholds and ties at scale 0.3 and at none, and what lies beyond a dtype."""
    largest = torch.finfo(dtype).max
    inf, nan = float("inf"), float("nan")
    grid = torch.arange(-16, 17, dtype=torch.float64) / 8
    extreme = torch.tensor([0.0, -0.0, inf, -inf, largest, -largest, nan], dtype=torch.float64)
    between = torch.randn(40, dtype=torch.float64)
    return torch.cat([grid, grid * 0.3, between, extreme]).to(dtype).to(DEVICE)


def gradient_like(x: Tensor) -> Tensor:
    grad = torch.randn(x.shape, dtype=torch.float64).to(x)
    grad.view(-1)[::7] = 0
    return grad


def assert_equal(actual: Tensor, expected: Tensor, tolerance: float = 0.0) -> None:
    """Equal, or as near as ``tolerance`` times the largest finite value."""
    finite = expected[expected.isfinite()]
    largest = float(finite.abs().max()) if finite.numel() else 0.0
    torch.testing.assert_close(
        actual, expected, rtol=0, atol=tolerance * largest, equal_nan=True, check_stride=True
    )


def assert_gradients_equal(
    actual: Gradients, expected: Gradients, x: Tensor, tolerance: float = 1e-6
) -> None:
    assert_equal(actual.x, expected.x, tolerance)
    # Sums of x.numel() terms, some of each sign.
    slack = 1e-6 * x.numel() if x.dtype in (torch.float32, torch.float64) else 2e-2 * x.numel()
    for one, other in zip(actual[1:], expected[1:], strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(
                one, other.to(one.dtype), rtol=1e-5, atol=slack, check_dtype=False
            )
