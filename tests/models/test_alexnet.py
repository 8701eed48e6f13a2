"""Layers, sizes and initial state of the DoReFa AlexNet."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from brevitas_ftprop.models import QuantAlexNet

CONVOLUTIONS = 3 * 96 * 144 + 96 * 256 * 25 + 256 * 384 * 9 + 384 * 384 * 9 + 384 * 256 * 9
NORMS = 2 * (256 + 384 + 384 + 256 + 4096 + 4096)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_parameters_at_full_size_are_those_of_the_dorefa_alexnet():
    linears = 256 * 6 * 6 * 4096 + 4096 * 4096 + 4096 * 1000 + 1000
    assert CONVOLUTIONS + NORMS + linears == 62_394_344
    assert parameters(QuantAlexNet()) == 62_394_344


def test_parameters_of_the_small_input_form():
    linears = 256 * 4096 + 4096 * 4096 + 4096 * 10 + 10
    assert parameters(QuantAlexNet(10, 64)) == CONVOLUTIONS + NORMS + linears


def test_the_hardware_form_trades_a_bias_for_a_batch_norm():
    linears = 256 * 4096 + 4096 * 4096 + 4096 * 10
    expected = CONVOLUTIONS + NORMS + 2 * 96 + linears
    assert parameters(QuantAlexNet(10, 64, form="hardware", weight_bits=1)) == expected


def test_layers_follow_the_paper_with_the_pool_before_the_activation():
    model = QuantAlexNet(10, 64, channels=(4, 4, 4, 4, 4), fc=8)
    names = [*dict(model.features.named_children()), *dict(model.classifier.named_children())]
    assert names == [
        *("conv0", "act0"),
        *("conv1", "norm1", "pool1", "act1"),
        *("conv2", "norm2", "pool2", "act2"),
        *("conv3", "norm3", "act3"),
        *("conv4", "norm4", "pool4", "act4"),
        *("fc0", "norm5", "act5"),
        *("fc1", "norm6", "act6"),
        "fc2",
    ]


def test_the_hardware_form_adds_an_input_quantizer_and_a_batch_norm():
    paper = QuantAlexNet(10, 64, channels=(4, 4, 4, 4, 4), fc=8)
    hardware = QuantAlexNet(10, 64, channels=(4, 4, 4, 4, 4), fc=8, form="hardware")
    names = dict(hardware.features.named_children()).keys()
    assert names - dict(paper.features.named_children()).keys() == {"input", "norm0"}
    assert list(names)[:4] == ["input", "conv0", "norm0", "act0"]


@pytest.mark.parametrize("size", [60, 61, 64, 75, 76, 96, 112])
def test_the_first_linear_layer_fits_any_input_size(size):
    model = QuantAlexNet(10, size, channels=(2, 2, 2, 2, 2), fc=4).eval()
    assert model(torch.zeros(1, 3, size, size)).shape == (1, 10)


@pytest.mark.parametrize("size", [1, 32, 59])
def test_too_small_an_input_is_refused(size):
    with pytest.raises(ValueError, match=f"60×60 or more, not {size}×{size}"):
        QuantAlexNet(10, size)


def test_channels_of_another_number_of_convolutions_are_refused():
    with pytest.raises(ValueError, match="five convolutions"):
        QuantAlexNet(10, 64, channels=(8, 8))


@pytest.mark.parametrize("act", ["sign", "staircase3", "int2"])
def test_pooled_units_start_on_both_sides_of_zero(act):
    pooled = {}

    def keep(name):
        def hook(module, inputs, output):
            pooled[name] = (output > 0).float().mean().item()

        return hook

    model = QuantAlexNet(10, 96, channels=(16, 32, 32, 32, 32), fc=16, act=act)
    for name in ("pool1", "pool2", "pool4"):
        getattr(model.features, name).register_forward_hook(keep(name))
    model(torch.randn(16, 3, 96, 96))
    assert len(pooled) == 3
    # Without the initial bias about 0.95 to 1 of them are positive.
    assert all(0.3 < share < 0.7 for share in pooled.values()), pooled


def test_the_float_baseline_keeps_its_usual_initial_bias():
    model = QuantAlexNet(10, 64, channels=(4, 4, 4, 4, 4), fc=8, act="relu")
    assert not model.features.norm1.bias.any()
