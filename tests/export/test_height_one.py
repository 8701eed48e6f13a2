"""Networks on signals are written as networks on images of height 1, to the last bit."""

from __future__ import annotations

import brevitas.nn as qnn
import numpy as np
import pytest
import torch
from brevitas.core.function_wrapper import CeilSte
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8WeightPerTensorFixedPoint,
    Uint8ActPerTensorFixedPoint,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from torch import Tensor, nn

from brevitas_ftprop import quant
from brevitas_ftprop.export.graph_reading import shape_of
from brevitas_ftprop.export.height_one import HeightOne
from brevitas_ftprop.export.qonnx import qonnx_graph


class Function(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def norm(channels: int) -> nn.Module:
    """A batch norm that rounds nothing: its numbers are small multiples of powers of two."""
    layer = nn.BatchNorm1d(channels, eps=2.0**-20)
    with torch.no_grad():
        layer.weight.copy_(torch.randint(1, 5, (channels,)) * torch.randn(channels).sign() / 4)
        layer.bias.copy_(torch.randint(-8, 9, (channels,)) / 8)
        layer.running_mean.copy_(torch.randint(-8, 9, (channels,)) / 8)
        layer.running_var.copy_(4.0 ** torch.randint(-1, 2, (channels,)) - layer.eps)
    return layer


def conv(entering: int, leaving: int, kernel: int, **options) -> nn.Module:
    kind = (Int8WeightPerTensorFixedPoint, quant.TargetPropInt8WeightPerChannelFixedPoint)[
        leaving % 2
    ]
    options |= {"weight_quant": kind, "weight_bit_width": 4, "bias": False}
    return qnn.QuantConv1d(entering, leaving, kernel, **options)


ACTIVATIONS = {
    "relu": lambda: qnn.QuantReLU(Uint8ActPerTensorFixedPoint, bit_width=3),
    "signed": lambda: qnn.QuantIdentity(Int8ActPerTensorFixedPoint, bit_width=4),
    "sign": lambda: qnn.QuantIdentity(quant.TargetPropSignedBinaryActPerTensorConst),
    # Exported as thresholds, and not as a quantizer.
    "ceil": lambda: qnn.QuantReLU(
        quant.TargetPropUint8ActPerTensorFixedPoint, bit_width=3, float_to_int_impl=CeilSte
    ),
}
LAYERS = {
    "conv": lambda c: [conv(c, c + 1, 3, padding=1, stride=2), norm(c + 1)],
    "dilated": lambda c: [conv(c, c, 3, dilation=2, padding=2), norm(c)],
    "depthwise": lambda c: [conv(c, c, 3, padding=1, groups=c)],
    "max pool": lambda c: [nn.MaxPool1d(3, 2, padding=1)],
    "average pool": lambda c: [nn.AvgPool1d(2)],
    "factors": lambda c: [Function(lambda x: x * (torch.arange(1.0, c + 1)[:, None] / 4))],
    "padded": lambda c: [nn.ConstantPad1d((2, 1), -1.0), conv(c, c, 3)],
    "upsampled": lambda c: [nn.Upsample(scale_factor=2)],
    "joined": lambda c: [Function(lambda x: torch.cat([x, -x], 1))],
    "of height 1": lambda c: [
        Function(lambda x: x.unsqueeze(2)),
        nn.MaxPool2d((1, 2)),
        Function(lambda x: x.squeeze(2)),
    ],
}
ENDS = {
    "none": [],
    "adaptive": [nn.AdaptiveAvgPool1d(1), nn.Flatten()],
    "mean": [Function(lambda x: x.mean(-1))],
    "mean of its own shape": [Function(lambda x: x.mean(2, keepdim=True))],
    "squeezed": [nn.AdaptiveAvgPool1d(1), Function(lambda x: x.squeeze(-1))],
    "flat": [nn.Flatten()],
    "viewed": [Function(lambda x: x.view(1, -1))],
}


def network(names: list[str], acts: list[str], end: str) -> nn.Module:
    channels, layers = 3, [ACTIVATIONS["signed"](), conv(2, 3, 3, padding=1)]
    for name, act in zip(names, acts, strict=False):
        layers += [*LAYERS[name](channels), ACTIVATIONS[act]()]
        channels = {"conv": channels + 1, "joined": 2 * channels}.get(name, channels)
    return nn.Sequential(*layers, *ENDS[end])


def assert_same_on_images(model: nn.Module, x: Tensor, *, dynamo: bool) -> ModelWrapper:
    """What PyTorch makes of a signal, a graph on images of height 1 does, to the last bit."""
    for layer in model.modules():
        layer.training = not isinstance(layer, nn.BatchNorm1d)
    with torch.no_grad():
        model(x)
        expected = model.eval()(x).numpy()
    before = ModelWrapper(qonnx_graph(model, x, dynamo=dynamo))
    graph = before.transform(HeightOne())
    assert shape_of(graph, graph.graph.input[0].name) == [1, x.shape[1], 1, x.shape[2]]
    assert not {"Squeeze", "Unsqueeze"}.intersection(n.op_type for n in graph.graph.node)
    given = {graph.graph.input[0].name: x.unsqueeze(2).numpy()}
    (found,) = execute_onnx(graph, given).values()
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)
    return graph


# Lengths are halved up to four times: their averages are exact.
signals = st.integers(0, 2**32 - 1).map(
    lambda seed: (
        torch.randint(-40, 41, (1, 2, 64), generator=torch.Generator().manual_seed(seed)) / 16
    )
)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from(list(LAYERS)), max_size=3),
    st.lists(st.sampled_from(list(ACTIVATIONS)), min_size=3, max_size=3),
    st.sampled_from(list(ENDS)),
    signals,
)
def test_signals_as_images_give_what_pytorch_does_on_ties(names, acts, end, x):
    assert_same_on_images(network(names, acts, end), x, dynamo=False)


@pytest.mark.parametrize(
    ("end", "dynamo"), [("squeezed", False), ("viewed", False), ("adaptive", True)]
)
def test_graphs_of_either_exporter_do(end, dynamo):
    torch.manual_seed(0)
    model = network(list(LAYERS), [*ACTIVATIONS] * 3, end)
    assert_same_on_images(model, torch.randint(-40, 41, (1, 2, 64)) / 16, dynamo=dynamo)


def test_a_network_with_an_operator_that_has_no_such_form_stays_as_it_is():
    layers = [ACTIVATIONS["signed"](), conv(2, 3, 3), nn.Softmax(1)]
    x = torch.randn(1, 2, 8)
    graph = ModelWrapper(qonnx_graph(nn.Sequential(*layers).eval(), x, dynamo=False))
    assert graph.transform(HeightOne()).model == graph.model


def test_a_network_on_images_and_one_without_convolutions_stay_as_they_are():
    for layers, shape in (
        ([nn.Conv2d(2, 3, 3)], (1, 2, 4, 4)),
        ([qnn.QuantLinear(4, 3, bias=False)], (1, 2, 4)),
    ):
        model = nn.Sequential(ACTIVATIONS["signed"](), *layers).eval()
        graph = ModelWrapper(qonnx_graph(model, torch.randn(shape), dynamo=False))
        assert graph.transform(HeightOne()).model == graph.model


def test_the_weights_of_a_layer_that_is_called_twice_become_higher_once():
    shared = conv(2, 2, 3, padding=1)
    layers = [ACTIVATIONS["signed"](), shared, ACTIVATIONS["signed"](), shared]
    x = torch.randint(-40, 41, (1, 2, 16)) / 16
    assert_same_on_images(nn.Sequential(*layers), x, dynamo=True)
