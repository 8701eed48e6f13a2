"""Layers and sizes of the 4-layer network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from brevitas_ftprop.models import ConvNet4


def test_parameters_are_those_of_the_paper_s_layers():
    conv = (3 * 25 + 1) * 32 + (32 * 25 + 1) * 64
    linear = (64 * 8 * 8 + 1) * 1024 + (1024 + 1) * 10
    assert conv + linear == 4_259_274
    assert sum(parameter.numel() for parameter in ConvNet4().parameters()) == 4_259_274


def test_layers_are_convolution_pool_activation_without_batch_norm():
    model = ConvNet4(10, 8, channels=(4, 4), fc=8)
    features = "conv0 pool0 act0 conv1 pool1 act1"
    assert list(dict(model.features.named_children())) == features.split()
    assert list(dict(model.classifier.named_children())) == ["fc0", "act2", "fc1"]
    assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in model.modules())


def test_the_float_form_computes_what_its_layers_do_one_by_one():
    model = ConvNet4(10, 8, channels=(4, 6), fc=8, act="saturated_relu").eval()
    conv0, conv1 = model.features.conv0, model.features.conv1
    fc0, fc1 = model.classifier.fc0, model.classifier.fc1
    images = torch.randn(3, 3, 8, 8)
    x = nn.functional.conv2d(images, conv0.weight, conv0.bias, padding=3)
    x = nn.functional.max_pool2d(x, 2).clamp(0, 1)
    x = nn.functional.conv2d(x, conv1.weight, conv1.bias, padding=2)
    x = nn.functional.max_pool2d(x, 2).clamp(0, 1).flatten(1)
    x = nn.functional.linear(x, fc0.weight, fc0.bias).clamp(0, 1)
    assert torch.equal(model(images), nn.functional.linear(x, fc1.weight, fc1.bias))


@pytest.mark.parametrize("size", [2, 3, 5, 6, 31, 32])
def test_the_first_linear_layer_fits_any_input_size(size):
    model = ConvNet4(10, size, channels=(2, 2), fc=4).eval()
    assert model(torch.zeros(1, 3, size, size)).shape == (1, 10)


def test_too_small_an_input_is_refused():
    with pytest.raises(ValueError, match="2×2 or more, not 1×1"):
        ConvNet4(10, 1)


def test_channels_of_another_number_of_convolutions_are_refused():
    with pytest.raises(ValueError, match="two convolutions"):
        ConvNet4(channels=(8,))
