"""Small networks of the kinds that hls4ml projects are made from."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import brevitas.nn as qnn
import pytest
import torch
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8WeightPerChannelFloat,
    ShiftedUint8ActPerTensorFloat,
    Uint8ActPerTensorFloat,
)
from torch import nn

from brevitas_ftprop.export import export_qonnx
from brevitas_ftprop.models import ConvNet4
from brevitas_ftprop.quant import (
    TargetPropInt8WeightPerTensorFixedPoint,
    TargetPropSignedBinaryActPerTensorConst,
    TargetPropSignedTernaryActPerTensorConst,
    TargetPropStaircase5ActPerTensorFixedPoint,
    TargetPropUint8ActPerTensorFixedPoint,
)

MISSING = [
    *(["hls4ml"] if importlib.util.find_spec("hls4ml") is None else []),
    *(["g++"] if shutil.which("g++") is None else []),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if MISSING and "simulated" in item.keywords:
            reason = f"needs {' and '.join(MISSING)}: pip install 'brevitas-ftprop[hls4ml]'"
            item.add_marker(pytest.mark.skip(reason=reason))


def image_quantizer() -> nn.Module:
    return qnn.QuantIdentity(act_quant=Int8ActPerTensorFixedPoint)


def hardware_network(act: str) -> nn.Module:
    """Batch norm, max pooling and activation behind each convolution; padded."""
    return ConvNet4(10, 8, channels=(4, 6), fc=8, form="hardware", act=act)


def channel_network(act: str) -> nn.Module:
    """The same with a weight scale for each channel."""
    return ConvNet4(
        10, 8, channels=(4, 6), fc=8, form="hardware", act=act, weight_bits=4,
        weight_scale="channel",
    )  # fmt: skip


def pool_first_network() -> nn.Module:
    """Max pooling of the sums themselves, as in the quickstart."""
    weights = {
        "weight_quant": TargetPropInt8WeightPerTensorFixedPoint,
        "weight_bit_width": 4,
        "bias": False,
    }
    return nn.Sequential(
        qnn.QuantIdentity(act_quant=TargetPropUint8ActPerTensorFixedPoint),
        qnn.QuantConv2d(3, 6, 3, padding=1, **weights),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(6),
        qnn.QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst),
        nn.Flatten(),
        qnn.QuantLinear(96, 10, **weights),
    )


def free_scales_network() -> nn.Module:
    """Stock quantizers with scales that are no powers of two, and a bias."""
    weights = {"weight_quant": Int8WeightPerChannelFloat, "weight_bit_width": 2}
    return nn.Sequential(
        image_quantizer(),
        qnn.QuantConv2d(3, 6, 3, bias=False, **weights),
        nn.BatchNorm2d(6),
        qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=2),
        nn.MaxPool2d(2),
        nn.Flatten(),
        qnn.QuantLinear(54, 10, bias=True, weight_bit_width=8),
    )


def dense_network() -> nn.Module:
    """Fully connected; ternary and five-step activations, a zero-point, biases, no batch norm."""
    return nn.Sequential(
        image_quantizer(),
        qnn.QuantLinear(6, 8, bias=True, weight_bit_width=4),
        qnn.QuantIdentity(act_quant=TargetPropSignedTernaryActPerTensorConst),
        qnn.QuantLinear(8, 8, bias=True, weight_bit_width=4),
        qnn.QuantIdentity(act_quant=ShiftedUint8ActPerTensorFloat, bit_width=3),
        qnn.QuantLinear(8, 8, bias=True, weight_bit_width=4),
        qnn.QuantIdentity(act_quant=TargetPropStaircase5ActPerTensorFixedPoint),
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{act: (lambda act=act: hardware_network(act), (3, 8, 8)) for act in
       ("sign", "int2", "staircase3", "staircase5")},
    "int4": (lambda: channel_network("int4"), (3, 8, 8)),
    "pool first": (pool_first_network, (3, 8, 8)),
    "free scales": (free_scales_network, (3, 8, 8)),
    "dense": (dense_network, (6,)),
}  # fmt: skip


def make_network(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A network with statistics collected, and rising, falling and constant channels."""
    torch.manual_seed(0)
    build, shape = NETWORKS[name]
    model = build()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 0:
                parameter.add_(0.3 * torch.randn(parameter.shape))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight[0], module.weight[1] = -module.weight[0].abs(), 0
        for _ in range(3):
            model(torch.randn(16, *shape))
    return model.eval(), shape


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Callable[[str], tuple[nn.Module, Path, tuple[int, ...]]]:
    """Networks and their QONNX files by name, made when first asked for; none may be changed."""
    done = {}

    def export(name: str):
        if name not in done:
            model, shape = make_network(name)
            path = tmp_path_factory.mktemp("qonnx") / "model.onnx"
            export_qonnx(model, torch.zeros(1, *shape), path, dynamo=False)
            done[name] = model, path, shape
        return done[name]

    return export


@pytest.fixture
def network() -> Callable[[str], tuple[nn.Module, tuple[int, ...]]]:
    """Makes a network of its own for a test."""
    return make_network
