"""In other dtypes and under autocast, quantizers still equal stock ones bit for bit."""

import pytest
import torch
from torch import nn

from tests.quant.twins import (
    CHANNELS,
    WEIGHTS,
    WITH_STOCK,
    act_twins,
    adversarial,
    assert_finite,
    spread_weights,
    step_both,
    value_of,
    weight_twins,
)

pytestmark = pytest.mark.heavy


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", WITH_STOCK)
def test_activation_in_another_dtype_equals_stock(name, dtype):
    twins = [twin.to(dtype) for twin in act_twins(name)]
    x = adversarial(torch.tensor(0.35)).to(dtype)
    for index in range(3):
        step_both(twins, [None, None], (x, x), index)
    assert value_of(twins[0](x)).dtype is dtype


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", WEIGHTS)
def test_weight_in_another_dtype_equals_stock(name, dtype):
    twins = [twin.to(dtype) for twin in weight_twins(name, None)]
    spread_weights(twins, 0.1)
    x = torch.randn(6, 24).to(dtype)
    for index in range(3):
        step_both(twins, [None, None], (x, x), index)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", WITH_STOCK)
def test_autocast_training_equals_stock(name, dtype):
    twins = []
    for act in act_twins(name):
        torch.manual_seed(3)
        twins.append(nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), act))
    optimizers = [torch.optim.SGD(twin.parameters(), lr=1e-3) for twin in twins]
    for index in range(4):
        x = adversarial(torch.tensor(0.35))
        with torch.autocast("cpu", dtype):
            step_both(twins, optimizers, (x, x), index)
    # Stock overflows to NaN in float16 for some scales, and so do we.
    if dtype is torch.bfloat16:
        assert_finite(twins[0])


@pytest.mark.parametrize("name", WEIGHTS)
def test_autocast_training_of_weights_equals_stock(name):
    twins = weight_twins(name, None)
    spread_weights(twins, 0.1)
    optimizers = [torch.optim.SGD(twin.parameters(), lr=0.05) for twin in twins]
    for index in range(4):
        x = torch.randn(6, 24)
        with torch.autocast("cpu", torch.bfloat16):
            step_both(twins, optimizers, (x, x), index)
