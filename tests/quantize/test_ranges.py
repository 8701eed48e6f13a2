"""Quantizers start with the range whose error on the images is the least."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn

from brevitas_ftprop.quantize import quantize_for_finn
from brevitas_ftprop.quantize.choices import Choices
from brevitas_ftprop.quantize.placement import Slot
from brevitas_ftprop.quantize.quant_modules import quant_module
from brevitas_ftprop.quantize.ranges import find_ranges, rounded_to

VALUES = torch.randn(400, generator=torch.Generator().manual_seed(0)) * 3


@settings(deadline=None, max_examples=40)
@given(
    bits=st.integers(2, 8),
    is_signed=st.booleans(),
    power_of_two=st.booleans(),
    limit=st.floats(0.01, 100.0),
)
def test_the_grid_that_ranges_are_tried_on_is_that_of_the_quantizer(
    bits, is_signed, power_of_two, limit
):
    if power_of_two:
        limit = 2.0 ** round(math.log2(limit))
    kind = "signed" if is_signed else "unsigned"
    choices = Choices(act="int4", power_of_two=power_of_two, signed_bits=bits)
    # Inserted quantizers have the same width, signed or not.
    module = quant_module(Slot("q", kind, ""), nn.Identity(), limit, choices).eval()
    expected = rounded_to(VALUES, limit, bits, is_signed, power_of_two=power_of_two)
    with torch.no_grad():
        torch.testing.assert_close(module(VALUES), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_no_range_of_a_fine_grid_is_much_better(bits, power_of_two):
    graph_model = fx.symbolic_trace(nn.Sequential(nn.Identity()))
    found = find_ranges(graph_model, VALUES[None], {"0": (bits, True)}, power_of_two=power_of_two)

    def error(limit):
        rounded = rounded_to(VALUES, limit, bits, True, power_of_two=power_of_two)
        return float((rounded - VALUES).square().mean())

    grid = 2.0 ** np.arange(-6, 6) if power_of_two else np.linspace(0.05, 1, 400) * 10
    assert error(found["0"]) <= (1 if power_of_two else 1.1) * min(map(error, grid))


def test_a_clip_bounds_the_range():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU6(), nn.Linear(4, 2))
    images = torch.randn(64, 4) * 100
    quantized, _ = quantize_for_finn(model, images, act="int8", dynamo=False)
    act = quantized.get_submodule("1")
    assert float(act.act_quant.scale().detach()) * 255 <= 6 * (1 + 1e-6)


@pytest.mark.parametrize("has_statistics", [False, True])
def test_batch_norms_that_have_seen_nothing_take_the_batchs_statistics(has_statistics):
    """As in training, where ranges of other values would cut most of them off."""
    images = torch.randn(64, 4)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    model[0].weight.data *= 100
    if has_statistics:
        # As of checkpoints that are too old to count batches.
        model[1].running_var.fill_(1e4)
    quantized, _ = quantize_for_finn(model, images, act="int8", dynamo=False)
    assert not quantized.get_submodule("1").num_batches_tracked
    seen = model[:3].train(not has_statistics)(images).detach()
    largest = float(quantized.get_submodule("2").act_quant.scale().detach()) * 255
    assert 0.7 * seen.max() < largest <= 1.001 * seen.max()


def test_a_quantizer_that_only_zeros_reach_is_named():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="only zeros reach input_1_quant"):
        quantize_for_finn(model, torch.zeros(1, 4))
