"""What the ops refuse: unknown options, 1/N weights in float16, second derivatives."""

from __future__ import annotations

import pytest
import torch

from brevitas_ftprop import RULES
from brevitas_ftprop.ops import check_options
from tests.ops.units import DEVICE, OPS, every_op


@pytest.mark.parametrize("op", OPS)
def test_mean_weighting_is_refused_in_half_precision(op):
    x = torch.randn(4, 3, dtype=torch.float16)
    with pytest.raises(ValueError, match="loss scaling"):
        every_op("hinge", "mean")[op](x)
    with (
        torch.autocast(DEVICE.type, torch.float16),
        pytest.raises(ValueError, match="loss scaling"),
    ):
        every_op("hinge", "mean")[op](x.float())
    with torch.autocast(DEVICE.type, torch.bfloat16):
        every_op("hinge", "mean")[op](x.float())


@pytest.mark.parametrize("op", OPS)
def test_second_derivatives_are_refused(op):
    x = torch.randn(4, requires_grad=True)
    weight = torch.ones(4, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        (every_op("soft_hinge")[op](x) * weight).sum(), x, create_graph=True
    )
    with pytest.raises(RuntimeError, match="differentiated once"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("no_such_rule", "grad", "single"), "soft_hinge"),
        (("hinge", "sum", "single"), "grad, mean"),
        (("hinge", "grad", "double"), "single, sum"),
    ],
)
def test_unknown_options_are_refused_and_the_valid_ones_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        check_options(*options)


def test_options_give_the_canonical_spec_of_the_rule():
    assert check_options("SSTE", "mean", "sum") == "saturated_ste"
    assert check_options(RULES["saturated_ste"](width=2.0), "grad", "sum").startswith("saturated")
