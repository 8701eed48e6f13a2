"""Layers and sizes of the 8-layer network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from brevitas_ftprop.models import ConvNet8


@pytest.mark.parametrize(("size", "last_kernel"), [(32, 4), (40, 5)])
def test_parameters_are_those_of_the_dorefa_network(size, last_kernel):
    inner = 48 * 64 + 64 * 64 + 64 * 128 + 128 * 128 + 128 * 128
    conv = (3 * 25 + 1) * 48 + 9 * inner + 128 * 512 * last_kernel**2
    norm = 2 * (64 + 64 + 128 + 128 + 128 + 512)
    expected = conv + norm + (512 + 1) * 10
    assert sum(parameter.numel() for parameter in ConvNet8(10, size).parameters()) == expected


def test_layers_follow_the_paper_with_the_pool_before_the_activation():
    model = ConvNet8(10, 32, channels=(4, 4, 4, 4, 4, 4, 4))
    assert list(dict(model.features.named_children())) == [
        *("conv0", "pool0", "act0"),
        *("conv1", "norm1", "act1"),
        *("conv2", "norm2", "pool2", "act2"),
        *("conv3", "norm3", "act3"),
        *("conv4", "norm4", "act4"),
        *("conv5", "norm5", "act5", "dropout"),
        *("conv6", "norm6", "act6"),
    ]


@pytest.mark.parametrize("size", [32, 40])
def test_the_last_convolution_covers_the_whole_map(size):
    model = ConvNet8(10, size, channels=(2, 2, 2, 2, 2, 2, 4)).eval()
    assert model.features(torch.zeros(1, 3, size, size)).shape == (1, 4, 1, 1)


def test_dropout_drops_in_training_only():
    model = ConvNet8(10, 32, channels=(2, 2, 2, 2, 2, 8, 8), act="relu")
    dropout = model.features.dropout
    assert isinstance(dropout, nn.Dropout2d)
    ones = torch.ones(16, 8, 2, 2)
    assert set(dropout(ones).unique().tolist()) == {0.0, 2.0}
    assert torch.equal(model.eval().features.dropout(ones), ones)


@pytest.mark.parametrize("size", [16, 31, 48])
def test_another_input_size_is_refused(size):
    with pytest.raises(ValueError, match=f"32×32 or 40×40, not {size}×{size}"):
        ConvNet8(10, size)


def test_channels_of_another_number_of_convolutions_are_refused():
    with pytest.raises(ValueError, match="seven convolutions"):
        ConvNet8(channels=(8, 8))
