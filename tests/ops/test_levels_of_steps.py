"""The values that the steps give, against formulas in exact arithmetic and written-out numbers."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from brevitas_ftprop.ops import binary_sign, paper_staircase, ternary_step
from tests.ops.units import DTYPES, int_staircase


def grid_with_ties(steps, dtype):
    """A dense grid, the thresholds, and their neighbours one ulp away."""
    ties = torch.arange(-2, steps + 3, dtype=dtype) / (steps - 1)
    far = torch.full_like(ties, math.inf)
    grid = torch.linspace(-1, 2, 3001, dtype=dtype)
    return torch.cat([ties, ties.nextafter(far), ties.nextafter(-far), grid])


def assert_levels(y, levels, steps):
    """Exactly these levels, as values k·(1/n) within rounding of k/n."""
    levels = torch.tensor(levels, dtype=y.dtype)
    assert torch.equal((y.double() * steps).round(), levels.double())
    torch.testing.assert_close(y, levels / steps, rtol=2 * torch.finfo(y.dtype).eps, atol=0)
    assert len(y.unique()) == len(levels.unique())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("steps", [2, 3, 5, 9])
def test_paper_staircase_equals_its_formula_in_exact_arithmetic(steps, dtype):
    x = grid_with_ties(steps, dtype)
    levels = [min(max(math.ceil(Fraction(v) * (steps - 1)), 0), steps) for v in x.tolist()]
    assert_levels(paper_staircase(x, steps, 1.0, "soft_hinge", "grad", "single"), levels, steps)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("steps", [4, 7, 255])
def test_paper_staircase_without_exact_thresholds_equals_its_formula_in_its_dtype(steps, dtype):
    x = torch.linspace(-1, 2, 3001, dtype=dtype)
    levels = [min(max(math.ceil(v), 0), steps) for v in (x * (steps - 1)).tolist()]
    assert_levels(paper_staircase(x, steps, 1.0, "soft_hinge", "grad", "single"), levels, steps)


def test_the_two_staircases_of_the_paper_have_its_levels_and_thresholds():
    x = torch.tensor([-0.1, -0.0, 0.0, 1e-7, 0.5, 0.5000001, 1.0, 1.0000001, 9.0])
    levels = paper_staircase(x, 3, 1.0, "ste", "grad", "single")
    assert (levels * 3).round().tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    x = torch.tensor([0.0, 0.1, 0.25, 0.26, 0.5, 0.51, 0.75, 0.76, 1.0, 1.01])
    levels = paper_staircase(x, 5, 1.0, "ste", "grad", "single")
    assert (levels * 5).round().tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]


def test_ternary_forward_leaves_both_thresholds_at_zero():
    x = torch.tensor([-0.51, -0.5, -0.0, 0.0, 0.5, 0.51])
    y = ternary_step(x, torch.tensor(1.0), 0.5, "ste", "grad", "single")
    assert y.tolist() == [-1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sign_of_both_zeros_is_plus_one(dtype):
    tiny = torch.finfo(dtype).smallest_normal
    x = torch.tensor([0.0, -0.0, tiny, -tiny], dtype=dtype)
    y = binary_sign(x, torch.tensor(0.5, dtype=dtype), "ste", "grad")
    assert y.dtype is dtype
    assert y.tolist() == [0.5, 0.5, 0.5, -0.5]


def test_int_staircase_equals_clamping_the_rounded_value():
    v = torch.cat([torch.randn(300) * 4, torch.arange(-6, 6) + 0.5])
    lo, hi = torch.tensor(-2.0), torch.tensor(1.0)
    y = int_staircase(v, lo, hi, "ste", "grad", "single")
    assert torch.equal(y, v.round().clamp(-2, 1))
