"""Which signs have one bit in a streamlined graph, and that it computes what PyTorch computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import brevitas.nn as qnn
import numpy as np
import pytest
import torch
from brevitas.quant import SignedBinaryActPerTensorConst
from torch import Tensor, nn

from brevitas_ftprop.export.accelerator_io import checked_io
from brevitas_ftprop.export.finn import export_finn
from brevitas_ftprop.export.finn.environment import finn_environment
from brevitas_ftprop.export.qonnx import qonnx_graph
from brevitas_ftprop.models import ConvNet4
from brevitas_ftprop.models.layers import Layers

pytest.importorskip("finn", reason="needs the extra 'finn'")

ONE = Layers(act="sign", form="hardware", weight_bits=1)
TWO = Layers(act="sign", form="hardware", weight_bits=2)
MINUS = Layers(act="sign", form="hardware", weight_bits=1, pad_value=-1)
MINUS_TWO = Layers(act="sign", form="hardware", weight_bits=2, pad_value=-1)


class Block(nn.Module):
    """A residual block whose signs fork into windows padded with -1 and into the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = MINUS.conv(4, 4, 3, padding=1), MINUS.conv(4, 4, 3, padding=1)
        self.act1, self.act2 = MINUS.activation(), MINUS.activation()
        self.summand = MINUS.residual_quantizer(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.act1(self.conv1(x)))
        return self.act2(self.summand(y) + self.summand(x))


def half() -> nn.Module:
    """A sign of scale 1/2."""
    return qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst, scaling_init=0.5)


def halves() -> list[nn.Module]:
    """A sign of scale 1/2, padded with its lowest value, and a convolution."""
    return [half(), nn.ConstantPad2d(1, -0.5), ONE.conv(4, 4, 3)]


class Fork(nn.Module):
    """A sign of scale 1/2 that a padding reads, and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.act, *padded = halves()
        self.layers = nn.ModuleList([*padded, ONE.conv(4, 4, 1)])
        self.summand = MINUS.residual_quantizer(4)

    def forward(self, x: Tensor) -> Tensor:
        signs = self.act(x)
        pad, conv, point = self.layers
        return self.summand(conv(pad(signs))) + self.summand(point(signs))


def depthwise(layers: Layers, padding: int) -> nn.Module:
    """A depthwise convolution of four channels, of the layers' weights and padding."""
    conv = layers.conv(1, 4, 3, padding=padding)
    conv.in_channels, conv.groups = 4, 4
    return conv


def network(*body: nn.Module, side: int = 6, features: int = 4) -> nn.Sequential:
    """Signs of an image of four channels, a body, and a class of one-bit weights."""
    flat = features * side * side
    return nn.Sequential(ONE.activation(), *body, nn.Flatten(), ONE.linear(flat, 10)).eval()


# What each network's signs are, in order.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "linear": (lambda: network(), ["BINARY"]),
    "unpadded": (lambda: network(ONE.conv(4, 3, 3), ONE.activation(), side=4, features=3),
                 ["BINARY", "BINARY"]),
    "batch norm and pool": (
        lambda: network(
            ONE.conv(4, 3, 3), ONE.norm(3), ONE.activation(), nn.MaxPool2d(2), side=2, features=3
        ),
        ["BINARY", "BINARY"],
    ),
    "padded with 0": (
        lambda: network(ONE.conv(4, 4, 3, padding=1), ONE.activation()),
        ["INT2", "BINARY"],
    ),
    "padded with -1": (
        lambda: network(MINUS.conv(4, 4, 3, padding=1), ONE.activation()),
        ["BINARY", "BINARY"],
    ),
    "two bits": (
        lambda: network(TWO.conv(4, 4, 3), ONE.activation(), side=4),
        ["INT2", "BINARY"],
    ),
    "of scale 1/2, padded with -1/2": (
        lambda: network(ONE.conv(4, 4, 1), *halves(), ONE.activation()),
        ["BINARY", "BINARY", "BINARY"],
    ),
    "of scale 1/2, padded with -1/2 and read without": (
        lambda: network(ONE.conv(4, 4, 1), Fork(), ONE.activation()),
        ["BINARY", "BINARY", "BINARY"],
    ),
    "two bits padded with -1": (
        lambda: network(MINUS_TWO.conv(4, 4, 3, padding=1), ONE.activation()),
        ["UINT2", "BINARY"],
    ),
    "depthwise": (
        lambda: network(depthwise(ONE, 0), ONE.activation(), side=4),
        ["INT2", "BINARY"],
    ),
    "depthwise padded with -1": (
        lambda: network(depthwise(MINUS, 1), ONE.activation()),
        ["UINT2", "BINARY"],
    ),
    "residual": (lambda: network(Block()), ["BINARY", "BINARY", "BINARY"]),
}  # fmt: skip


def streamlined(model: nn.Module, example: Tensor):
    with finn_environment():
        from qonnx.core.modelwrapper import ModelWrapper

        from brevitas_ftprop.export.finn.flow_steps import STEPS

        io = checked_io("float", "class", None, None, None, example)
        graph = ModelWrapper(qonnx_graph(model, example, dynamo=False))
        for name in ("forms", "finn", "streamlined"):
            graph = STEPS[name](graph, io, None)
    return graph


@pytest.mark.parametrize("name", NETWORKS)
def test_signs_have_one_bit_where_it_is_exact(name):
    from qonnx.core.onnx_exec import execute_onnx

    make, expected = NETWORKS[name]
    torch.manual_seed(0)
    model = make()
    # Sums of an even number of signs are 0 now and then, where a sign is +1.
    images = torch.randint(-1, 2, (3, 4, 6, 6)).float()
    graph = streamlined(model, images[:1])
    signs = [n for n in graph.get_nodes_by_op_type("MultiThreshold") if _is_sign(graph, n)]
    assert [str(graph.get_tensor_datatype(node.output[0])) for node in signs] == expected
    with torch.no_grad():
        logits = model(images)
    for image, row in zip(images.split(1), logits, strict=True):
        entry = {graph.graph.input[0].name: image.numpy()}
        index = execute_onnx(graph, entry)[graph.graph.output[0].name]
        assert row[int(np.ravel(index)[0])] == row.max()


def _is_sign(graph, node) -> bool:
    thresholds = graph.get_initializer(node.input[1])
    return bool(np.ptp(thresholds, axis=1).max() == 0)


def test_signs_padded_with_minus_one_reach_hardware_layers_as_bits(tmp_path):
    torch.manual_seed(0)
    options = {"act": "sign", "form": "hardware", "weight_bits": 1, "pad_value": -1}
    model = ConvNet4(10, 12, channels=(4, 6), fc=8, **options).eval()
    # Channels whose sign is always +1, or always -1.
    with torch.no_grad():
        model.features.norm1.bias[:2] = torch.tensor([1e6, -1e6])
        model.classifier.norm2.bias[:2] = torch.tensor([1e6, -1e6])
    report = export_finn(
        model, torch.randn(1, 3, 12, 12), tmp_path / "out", dynamo=False, progress=False
    )
    assert report.ok
    assert report.mismatches == report.excused == 0
    paddings, xnors = folded_layers(tmp_path / "out")
    # Of the image's eight bits, and of the signs.
    assert paddings == ["INT8", "BINARY"]
    assert xnors == [0, 1, 1, 0]


def folded_layers(folder: Path) -> tuple[list[str], list[int]]:
    """Types that are padded, and which matrix products are xnor layers."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.custom_op.registry import getCustomOp

    with finn_environment():
        nodes = ModelWrapper(str(folder / "7_folded.onnx")).graph.node
        layers = [(node.op_type, getCustomOp(node)) for node in nodes]
        paddings = [n.get_nodeattr("inputDataType") for kind, n in layers if "FMPadding" in kind]
        xnors = [n.get_nodeattr("binaryXnorMode") for kind, n in layers if "MVAU" in kind]
    return paddings, xnors
