"""The layer loss of units against the gradient that their rule passes."""

from __future__ import annotations

import pytest
import torch

from brevitas_ftprop import RULES
from brevitas_ftprop.kernels import Integers, Operands, PaperStaircase, Sign, Ternary
from brevitas_ftprop.units import Units

SCALE = torch.tensor(0.4, dtype=torch.float64)
INTEGERS = Operands(SCALE, *(torch.tensor(each, dtype=torch.float64) for each in (1.0, -2.0, 5.0)))
UNITS = {
    "sign": lambda rule, x, how: Units(Sign(), x, Operands(SCALE), rule, how),
    "ternary": lambda rule, x, how: Units(
        Ternary(0.5, "single"), x, Operands(SCALE), rule, how, 0.0, 1.5
    ),
    "ternary_sum": lambda rule, x, how: Units(
        Ternary(0.5, "sum"), x, Operands(SCALE), rule, how, 0.0, 0.5
    ),
    "integers": lambda rule, x, how: Units(
        Integers("round", "single"), x, INTEGERS, rule, how, 1.5, 4.0
    ),
    "integers_sum": lambda rule, x, how: Units(
        Integers("round", "sum"), x, INTEGERS, rule, how, 1.5, 0.5
    ),
    "staircase": lambda rule, x, how: Units(
        PaperStaircase(3, 2.0, "single"), x, Operands(), rule, how, 1.5, 1.5
    ),
    "staircase_sum": lambda rule, x, how: Units(
        PaperStaircase(3, 2.0, "sum"), x, Operands(), rule, how, 1.5, 1.0
    ),
}


@pytest.mark.parametrize("weighting", ["grad", "mean"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", UNITS)
@pytest.mark.cover(2)
def test_its_derivative_is_what_the_rule_passes(kind, rule, weighting):
    torch.manual_seed(0)
    x = (4 * torch.randn(400).double()).requires_grad_()
    grad = torch.randn(400).double()
    units = UNITS[kind](RULES[rule](), x, weighting)
    (derivative,) = torch.autograd.grad(units.layer_loss(grad).sum(), x)
    assert torch.allclose(derivative, units.passed(grad), rtol=1e-9, atol=1e-12)
