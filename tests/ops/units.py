"""What the tests of the ops share: every op, and the layer losses of its units."""

from __future__ import annotations

import pytest
import torch

from brevitas_ftprop import RULES, Rule
from brevitas_ftprop.ops import binary_sign, int_quantize, paper_staircase, ternary_step

RULE_CLASSES = list(RULES.values())
TOLERANCE = {"rtol": 1e-9, "atol": 1e-12}  # float64
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
DEVICE = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def int_staircase(v, lo, hi, rule, weighting, form):
    """The integer quantizer with scale 1 and zero-point 0: clamp(round(v), lo, hi)."""
    one, zero = torch.ones((), dtype=v.dtype), torch.zeros((), dtype=v.dtype)
    return int_quantize(v, one, zero, lo, hi, rule, weighting, form)


def rule_parameters(function):
    return pytest.mark.parametrize("rule", RULE_CLASSES, ids=lambda rule: rule.name)(function)


def every_op(rule, weighting="grad", form="single"):
    one, lo, hi = torch.tensor(1.0), torch.tensor(-2.0), torch.tensor(1.0)
    return {
        "sign": lambda x: binary_sign(x, one.to(x.dtype), rule, weighting),
        "ternary": lambda x: ternary_step(x, one.to(x.dtype), 0.5, rule, weighting, form),
        "int": lambda x: int_staircase(x, lo.to(x.dtype), hi.to(x.dtype), rule, weighting, form),
        "paper": lambda x: paper_staircase(x, 3, 1.0, rule, weighting, form),
    }


OPS = list(every_op("ste"))


def layer_gradient(z, grad, rule: Rule, weighting="grad"):
    """``∂/∂z Σ_i w_i·l(t_i·z_i)`` with fixed targets and weights, for one unit per element.

    A rule without a loss is defined by its slope.
    """
    z = z.detach().clone().requires_grad_()
    target = -torch.sign(grad)
    weight = grad.abs() if weighting == "grad" else torch.full_like(grad, 1 / len(grad))
    if not rule.has_loss:
        return -weight * target * rule.slope(target * z.detach())
    loss = (weight * rule.loss(target * z))[target != 0].sum()
    return torch.autograd.grad(loss, z)[0]


def off_kinks(margins, rule: Rule):
    """Elements none of whose margins (one row per unit) is a kink."""
    margins = torch.atleast_2d(margins)
    ok = torch.ones(margins.shape[1:], dtype=torch.bool)
    for kink in rule.kinks:
        ok &= ((margins.abs() - abs(kink)).abs() > 1e-6).all(0)
    return ok


def dense(low, high, count=1201):
    x = torch.linspace(low, high, count, dtype=torch.float64) + 1e-4
    grad = torch.randn(count, dtype=torch.float64)
    grad[::11] = 0
    return x, grad


def input_gradient(function, x, grad):
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(function(x), x, grad)[0]


def agree(actual, expected, where):
    torch.testing.assert_close(actual[where], expected[where], **TOLERANCE)
    assert where.float().mean() > 0.9
