"""Networks on signals (N, C, L) become hls4ml's layers on images of height 1."""

from __future__ import annotations

import brevitas.nn as qnn
import pytest
import torch
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8WeightPerTensorFixedPoint,
    Uint8ActPerTensorFixedPoint,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from qonnx.core.modelwrapper import ModelWrapper
from torch import nn

from brevitas_ftprop.export import check_deployable
from brevitas_ftprop.export.graph_reading import shape_of
from brevitas_ftprop.export.hls4ml.hardware_graph import hardware_graph
from brevitas_ftprop.export.qonnx import qonnx_graph
from brevitas_ftprop.quant import TargetPropSignedBinaryActPerTensorConst
from tests.export.hls4ml.test_integer_sums import RTOL, run_hardware, some_images

CHANNELS, LENGTH = 3, 20
# PyTorch adds multiples of powers of two without rounding.
WEIGHTS = {"weight_quant": Int8WeightPerTensorFixedPoint, "weight_bit_width": 4}


def conv(kernel: int = 3, bias: bool = False, **options) -> nn.Module:
    return qnn.QuantConv1d(CHANNELS, CHANNELS, kernel, bias=bias, **WEIGHTS, **options)


def norm() -> nn.Module:
    layer = nn.BatchNorm1d(CHANNELS)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.2, -0.7, 0.4]))
        layer.bias.normal_(0, 0.3)
    return layer


LAYERS = {
    "conv": lambda: [conv(stride=2, padding=1)],
    "normed": lambda: [conv(padding=1), norm()],
    "biased": lambda: [conv(1, bias=True)],
    "dilated": lambda: [conv(dilation=3, padding=2)],
    "depthwise": lambda: [conv(groups=CHANNELS, padding=1)],
    "dilated depthwise": lambda: [conv(groups=CHANNELS, dilation=2), norm()],
    "pooled": lambda: [conv(), nn.MaxPool1d(3, 2, padding=1), norm()],
    "max pool": lambda: [nn.MaxPool1d(3, 2, ceil_mode=True)],
    "average pool": lambda: [nn.AvgPool1d(2, 1, padding=1)],
}
ACTIVATIONS = {
    "unsigned": lambda: qnn.QuantReLU(Uint8ActPerTensorFixedPoint, bit_width=3),
    "sign": lambda: qnn.QuantIdentity(TargetPropSignedBinaryActPerTensorConst),
}
# By the length of the signals that they read.
HEADS = {
    "none": lambda length: [],
    "average": lambda length: [nn.AdaptiveAvgPool1d(1)],
    "linear": lambda length: [nn.AdaptiveAvgPool1d(1), nn.Flatten(), linear(CHANNELS)],
    "flat": lambda length: [nn.Flatten(), linear(length * CHANNELS)],
}


def image() -> nn.Module:
    return qnn.QuantIdentity(Int8ActPerTensorFixedPoint)


def linear(entering: int) -> nn.Module:
    return qnn.QuantLinear(entering, 4, bias=True, **WEIGHTS)


def settled(*layers: nn.Module, head: str = "none") -> nn.Module:
    with torch.no_grad():
        length = nn.Sequential(*layers)(torch.randn(8, CHANNELS, LENGTH)).shape[-1]
    model = nn.Sequential(*layers, *HEADS[head](length))
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(8, CHANNELS, LENGTH))
    return model.eval()


def checked(model: nn.Module) -> list[tuple[str, str, str]]:
    report = check_deployable(model, torch.zeros(1, CHANNELS, LENGTH), "hls4ml", dynamo=False)
    return [(found.layer, found.requirement, found.message) for found in report]


def assert_same_as_images(model: nn.Module) -> None:
    """The graph for hls4ml gives what PyTorch does, and takes images of height 1."""
    graph = ModelWrapper(qonnx_graph(model, torch.zeros(1, CHANNELS, LENGTH), dynamo=False))
    hardware = hardware_graph(graph)
    assert shape_of(hardware, "global_in") == [1, 1, LENGTH, CHANNELS]
    signals = some_images(model, (CHANNELS, LENGTH))[::8]
    with torch.no_grad():
        expected = model(signals)
    found = run_hardware(hardware, signals.unsqueeze(2)).reshape(expected.shape)
    torch.testing.assert_close(found, expected, rtol=RTOL, atol=RTOL)


@settings(max_examples=4, deadline=None)
@given(
    st.lists(st.sampled_from(list(LAYERS)), min_size=1, max_size=3),
    st.sampled_from(list(ACTIVATIONS)),
    st.sampled_from(list(HEADS)),
    st.integers(0, 99),
)
def test_networks_on_signals_of_any_layers_compute_what_pytorch_does(names, act, head, seed):
    torch.manual_seed(seed)
    layers = [image(), conv(padding=1)]
    for name in names:
        layers += [ACTIVATIONS[act](), *LAYERS[name]()]
    model = settled(*layers, ACTIVATIONS[act](), head=head)
    assert checked(model) == []
    assert_same_as_images(model)


@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_on_signals_computes_what_pytorch_does(name):
    torch.manual_seed(0)
    model = settled(image(), *LAYERS[name](), ACTIVATIONS["unsigned"](), head="flat")
    assert_same_as_images(model)


def test_an_operator_without_a_form_on_images_is_named_and_the_network_without_it_passes():
    torch.manual_seed(0)
    layers = [image(), conv(), ACTIVATIONS["sign"](), nn.Softmax(1), conv()]
    what = "is on signals (N, C, L), and 3 (Softmax) has no form on images of height 1"
    assert checked(settled(*layers)) == [("1", "dimensions", what)]
    without = settled(*layers[:3], *layers[4:])
    assert checked(without) == []
    assert_same_as_images(without)


def test_a_network_on_signals_without_convolutions_is_refused_and_passes_on_features():
    model = settled(image(), nn.Flatten(), linear(CHANNELS * LENGTH))
    ((_, requirement, message),) = checked(model)
    assert requirement == "exact-form"
    assert "of networks with 1-D convolutions or pools, signals (N, C, L)" in message
    flat = check_deployable(model, torch.zeros(1, CHANNELS * LENGTH), "hls4ml", dynamo=False)
    assert flat.ok, str(flat)
