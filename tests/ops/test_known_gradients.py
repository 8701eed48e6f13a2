"""Gradients against hand computation, and those that are known to the bit."""

from __future__ import annotations

import math

import pytest
import torch

from brevitas_ftprop.ops import binary_sign, paper_staircase, ternary_step
from tests.ops.units import OPS, TOLERANCE, every_op, input_gradient, int_staircase

SECH2_HALF = 1 / math.cosh(0.5) ** 2
SECH2_ONE = 1 / math.cosh(1.0) ** 2


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        # u = -1, -1/2, 0, 1/2, 1 at v = -1/2, 1/2, 3/2, 5/2, 7/2
        ("single", [SECH2_ONE, SECH2_HALF, 1.0, SECH2_HALF, SECH2_ONE]),
        # thresholds 1/2, 3/2, 5/2
        (
            "sum",
            [
                0.5 * (SECH2_ONE + 1 / math.cosh(2) ** 2 + 1 / math.cosh(3) ** 2),
                0.5 * (1 + SECH2_ONE + 1 / math.cosh(2) ** 2),
                0.5 * (1 + 2 * SECH2_ONE),
                0.5 * (1 + SECH2_ONE + 1 / math.cosh(2) ** 2),
                0.5 * (SECH2_ONE + 1 / math.cosh(2) ** 2 + 1 / math.cosh(3) ** 2),
            ],
        ),
    ],
)
def test_two_bit_soft_hinge_equals_hand_computation(form, expected):
    v = torch.tensor([-0.5, 0.5, 1.5, 2.5, 3.5], dtype=torch.float64)
    gradient = input_gradient(
        lambda v: int_staircase(
            v, torch.tensor(0.0), torch.tensor(3.0), "soft_hinge", "grad", form
        ),
        v,
        torch.ones(5, dtype=torch.float64),
    )
    torch.testing.assert_close(gradient, torch.tensor(expected, dtype=torch.float64), **TOLERANCE)


def test_two_bit_saturated_sum_counts_the_thresholds_within_one():
    v = torch.tensor([-0.6, -0.5, 0.4, 0.5, 1.0, 1.5, 2.0, 3.5, 3.6])
    gradient = input_gradient(
        lambda v: int_staircase(
            v, torch.tensor(0.0), torch.tensor(3.0), "saturated_ste", "grad", "sum"
        ),
        v,
        torch.full((9,), 2.0),
    )
    assert gradient.tolist() == [0, 1, 1, 2, 2, 3, 2, 1, 0]


def test_saturated_paper_sums_equal_hand_computation():
    x = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0, 1.25, 1.75, 2.0, 2.5])
    gradient = input_gradient(
        lambda x: paper_staircase(x, 3, 1.0, "saturated_ste", "grad", "sum"),
        x,
        torch.full((9,), 3.0),
    )
    # thresholds 0, 1/2, 1; each passes within a distance of 1 and counts a third
    torch.testing.assert_close(
        gradient, torch.tensor([1.0, 2, 3, 3, 3, 2, 1, 1, 0]), rtol=1e-6, atol=0
    )


def test_hinge_on_a_ternary_step_equals_hand_computation():
    # scale 2, threshold 1/2: v = x/2; targets +1 for g<0 and -1 for g>0
    x = torch.tensor([-8.0, -2.0, 0.0, 2.0, 8.0, -8.0, 8.0])
    grad = torch.tensor([1.0, 1, 1, 1, 1, -1, -1])
    gradients = {
        form: input_gradient(
            lambda x, form=form: ternary_step(x, torch.tensor(2.0), 0.5, "hinge", "grad", form),
            x,
            grad,
        ).tolist()
        for form in ("single", "sum")
    }
    # single: u = x/3; with g>0 the margin is -u and passes for u >= -1
    assert gradients["single"] == [0, 2, 2, 2, 2, -2, 0]
    # sum: with g>0 a step at ±1/2 passes for v >= -1 ± 1/2
    assert gradients["sum"] == [0, 1, 2, 2, 2, -2, 0]


@pytest.mark.parametrize("steps", [3, 5])
def test_saturated_paper_staircase_passes_from_zero_to_one_ends_included(steps):
    one = torch.tensor(1.0)
    x = torch.stack(
        [torch.tensor(-1e-45), torch.tensor(-0.0), one * 0, one / 2, one, one.nextafter(one * 2)]
    )
    gradient = input_gradient(
        lambda x: paper_staircase(x, steps, 1.0, "saturated_ste", "grad", "single"),
        x,
        torch.full((6,), 2.0),
    )
    assert gradient.tolist() == [0, 2, 2, 2, 2, 0]


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.1])
def test_saturated_sign_passes_up_to_the_scale_and_not_one_ulp_beyond(scale):
    s = torch.tensor(scale)
    x = torch.stack([s, -s, s.nextafter(s * 2), -s.nextafter(s * 2), s.nextafter(s * 0)])
    gradient = input_gradient(
        lambda x: binary_sign(x, s, "saturated_ste", "grad"), x, torch.ones(5)
    )
    assert gradient.tolist() == [s.item(), s.item(), 0.0, 0.0, s.item()]


@pytest.mark.parametrize(("lo", "hi"), [(0, 3), (-2, 1), (-1, 1), (-8, 7), (0, 255)])
def test_saturated_staircase_passes_exactly_where_the_rounded_value_is_in_range(lo, hi):
    ties = torch.arange(lo - 3, hi + 4) + 0.5
    v = torch.cat([ties, ties.nextafter(ties + 1), ties.nextafter(ties - 1), ties - 0.5])
    gradient = input_gradient(
        lambda v: int_staircase(
            v, torch.tensor(float(lo)), torch.tensor(float(hi)), "saturated_ste", "grad", "single"
        ),
        v,
        torch.ones_like(v),
    )
    inside = [lo <= round(value) <= hi for value in v.tolist()]
    assert gradient.tolist() == [float(passes) for passes in inside]


@pytest.mark.parametrize("op", OPS)
def test_truncated_hinge_is_the_saturated_ste_bit_for_bit(op):
    x = torch.cat([torch.randn(500) * 2, torch.linspace(-4, 4, 129)])
    grad = torch.randn_like(x)
    one = input_gradient(every_op("truncated_hinge")[op], x, grad)
    other = input_gradient(every_op("saturated_ste")[op], x, grad)
    assert torch.equal(one, other)


@pytest.mark.parametrize("op", OPS)
def test_ste_passes_the_gradient_bit_for_bit(op):
    x, grad = torch.randn(500) * 3, torch.randn(500)
    assert torch.equal(input_gradient(every_op("ste")[op], x, grad), grad)
