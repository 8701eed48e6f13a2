"""The gradients of scales and bounds."""

from __future__ import annotations

import pytest
import torch

from brevitas_ftprop.ops import binary_sign, ternary_step
from tests.ops.units import int_staircase, rule_parameters


@pytest.mark.parametrize("shape", [(), (1, 3, 1), (2, 1, 1)])
@rule_parameters
def test_sign_scale_gradient_is_the_difference_quotient_of_the_forward(rule, shape):
    rule = rule()
    x, grad = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    scale = torch.rand(shape, dtype=torch.float64) * 0.5 + 0.5
    analytic = torch.autograd.grad(
        binary_sign(x, scale.requires_grad_(), rule.spec, "grad"), scale, grad
    )[0]
    assert analytic.shape == shape
    step = 1e-3
    with torch.no_grad():
        ahead, behind = scale + step, scale - step
        change = grad * (
            binary_sign(x, ahead, rule.spec, "grad") - binary_sign(x, behind, rule.spec, "grad")
        )
        expected = (change / (2 * step)).sum_to_size(shape)
        if rule.clamp_width is not None:
            # stock's clamp, whose ends move with the scale
            end = (rule.clamp_width * scale).expand_as(x)
            sides = (x > end).double() - (x < -end).double()
            expected = expected + (grad * end * sides).sum_to_size(shape)
    torch.testing.assert_close(analytic, expected)


def test_ternary_scale_gradient_is_the_difference_quotient_of_the_forward():
    x = torch.tensor([-2.0, -0.3, 0.0, 0.4, 0.9], dtype=torch.float64)
    grad = torch.tensor([1.0, 2, 4, 8, 16], dtype=torch.float64)
    scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    y = ternary_step(x, scale, 0.5, "soft_hinge", "grad", "single")
    assert torch.autograd.grad(y, scale, grad)[0].item() == 16 - 1


@pytest.mark.parametrize("form", ["single", "sum"])
def test_bounds_receive_the_gradient_of_the_units_clipped_there(form):
    v = torch.tensor([-3.0, -0.5, -0.6, 1.0, 3.4, 3.5, 9.0])
    grad = torch.tensor([1.0, 2, 4, 8, 16, 32, 64])
    lo, hi = torch.tensor(0.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    y = int_staircase(v, lo, hi, "soft_hinge", "grad", form)
    grad_lo, grad_hi = torch.autograd.grad(y, (lo, hi), grad)
    # -0.5 rounds to -0, inside; 3.5 rounds to 4, outside
    assert (grad_lo.item(), grad_hi.item()) == (1 + 4, 32 + 64)
