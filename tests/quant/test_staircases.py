"""The paper's staircases, which have no stock counterpart, follow their formula."""

import math

import pytest
import torch
from brevitas.nn import QuantIdentity

from brevitas_ftprop import quant
from tests.quant.twins import STAIRCASES, value_of


@pytest.mark.parametrize("name", STAIRCASES)
def test_staircase_equals_its_formula(name):
    steps = int(name.removeprefix("TargetPropStaircase")[0])
    act = QuantIdentity(act_quant=getattr(quant, name), return_quant_tensor=True)
    ties = torch.arange(-2, steps + 3) / (steps - 1)
    x = torch.cat([ties, ties.nextafter(ties + 1), ties.nextafter(ties - 1), torch.randn(500)])
    y = act(x)
    levels = torch.ceil(x * (steps - 1)).clamp(0, steps)
    height = 2 ** -math.ceil(math.log2(steps)) if "FixedPoint" in name else 1 / steps
    torch.testing.assert_close(y.value, levels * height, rtol=1e-6, atol=0)
    assert torch.equal(y.int(float_datatype=True), levels)
    assert y.bit_width == math.ceil(math.log2(steps + 1))
    assert not y.signed


@pytest.mark.parametrize("name", STAIRCASES)
def test_staircase_waits_for_its_quant_delay(name):
    act = QuantIdentity(act_quant=getattr(quant, name), quant_delay_steps=2)
    x = torch.randn(3, 5)
    assert [torch.equal(value_of(act(x)), x) for _ in range(4)] == [True, True, False, False]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", STAIRCASES)
def test_staircase_in_another_dtype_equals_its_formula(name, dtype):
    act = QuantIdentity(act_quant=getattr(quant, name)).to(dtype)
    x = torch.randn(500).to(dtype).requires_grad_()
    y = value_of(act(x))
    assert y.dtype is dtype
    steps = int(name.removeprefix("TargetPropStaircase")[0])
    assert len(y.unique()) == steps + 1
    y.sum().backward()
    assert x.grad.dtype is dtype
