"""Small networks with every kind of operator, exported once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import brevitas.nn as qnn
import pytest
import torch
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8ActPerTensorFloat,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFloat,
    Uint8ActPerTensorFloat,
)
from torch import Tensor, nn

from brevitas_ftprop.export import export_qcdq, export_qonnx
from brevitas_ftprop.quant import (
    TargetPropSignedBinaryActPerTensorConst,
    TargetPropSignedBinaryWeightPerTensorConst,
)

EXPORTS = {"qonnx": export_qonnx, "qcdq": export_qcdq}
FORMATS = [(name, dynamo) for name in EXPORTS for dynamo in (False, True)]
BATCH = 2


class ResidualNetwork(nn.Module):
    """Two convolutions with biases, an addition through one shared quantizer, and a classifier."""

    def __init__(self, activation: Callable[[], nn.Module], weight_quant: type) -> None:
        super().__init__()
        self.image = qnn.QuantIdentity(act_quant=Int8ActPerTensorFixedPoint)
        self.conv1 = qnn.QuantConv2d(
            3, 8, 3, padding=1, bias=True, weight_quant=weight_quant, weight_bit_width=4
        )
        self.act1 = activation()
        self.conv2 = qnn.QuantConv2d(
            8, 8, 3, padding=1, bias=False, weight_quant=weight_quant, weight_bit_width=4
        )
        self.norm = nn.BatchNorm2d(8)
        self.shared = qnn.QuantIdentity(act_quant=Int8ActPerTensorFixedPoint)
        self.act2 = activation()
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Sequential(
            nn.Flatten(),
            qnn.QuantLinear(128, 16, bias=False, weight_quant=weight_quant, weight_bit_width=4),
            activation(),
            qnn.QuantLinear(16, 5, bias=True, weight_quant=weight_quant, weight_bit_width=4),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.conv1(self.image(x)))
        x = self.shared(x) + self.shared(self.norm(self.conv2(x)))
        return self.head(self.pool(self.act2(x)))


def integer_network() -> nn.Module:
    """Stock Brevitas quantizers; 2 and 4 bits, learned scales, per-channel weights."""
    return trained(
        ResidualNetwork(
            lambda: qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=2),
            Int8WeightPerChannelFloat,
        )
    )


def sign_network() -> nn.Module:
    """Target-prop sign activations and binary weights."""
    return trained(
        ResidualNetwork(
            lambda: qnn.QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst),
            TargetPropSignedBinaryWeightPerTensorConst,
        )
    )


def small_network() -> nn.Module:
    """Fully connected; fast to export."""
    return trained(
        nn.Sequential(
            qnn.QuantIdentity(act_quant=Int8ActPerTensorFloat),
            qnn.QuantLinear(4, 8, bias=False, weight_quant=Int8WeightPerTensorFloat),
            qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=4),
            qnn.QuantLinear(8, 3, bias=True, weight_quant=Int8WeightPerTensorFloat),
        ),
        shape=(4,),
    )


def trained(model: nn.Module, shape: tuple[int, ...] = (3, 8, 8)) -> nn.Module:
    """Statistics collected and batch norm off its start, on fixed random data."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 0:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for _ in range(3):
            model(torch.randn(8, *shape, generator=generator))
    return model.eval()


class Exported(NamedTuple):
    model: nn.Module
    path: Path
    format: str
    dynamo: bool


NETWORKS = {"integer": integer_network, "sign": sign_network}
# In every run each format comes from each exporter, and a network from one of them: an export
# takes longer than most tests that look at its file.
QUICK = {(name, dynamo, "sign" if dynamo else "integer") for name, dynamo in FORMATS}
CASES = [
    pytest.param(case, marks=[pytest.mark.slow] * (case not in QUICK))
    for case in ((*case, network) for case in FORMATS for network in NETWORKS)
]


def case_id(case: tuple[str, bool, str]) -> str:
    name, dynamo, network = case
    return f"{name}-{'dynamo' if dynamo else 'torchscript'}-{network}"


@pytest.fixture(scope="session")
def export_once(tmp_path_factory) -> Callable[[tuple[str, bool, str]], Exported]:
    """Networks and their files, made when first asked for; none may be changed."""
    done: dict[tuple[str, bool, str], Exported] = {}

    def export(case: tuple[str, bool, str]) -> Exported:
        if case not in done:
            name, dynamo, network = case
            torch.manual_seed(0)
            model = NETWORKS[network]()
            path = tmp_path_factory.mktemp("exported") / "model.onnx"
            EXPORTS[name](model, images(BATCH), path, dynamo=dynamo)
            done[case] = Exported(model, path, name, dynamo)
        return done[case]

    return export


@pytest.fixture(params=CASES, ids=case_id)
def exported(request: pytest.FixtureRequest, export_once) -> Exported:
    return export_once(request.param)


@pytest.fixture(params=[case for case in CASES if "qonnx" in case.values[0]], ids=case_id)
def qonnx(request: pytest.FixtureRequest, export_once) -> Exported:
    return export_once(request.param)


@pytest.fixture(params=[case for case in CASES if "qcdq" in case.values[0]], ids=case_id)
def qcdq(request: pytest.FixtureRequest, export_once) -> Exported:
    return export_once(request.param)


def images(count: int) -> Tensor:
    """Random images, the first of them all zeros."""
    batch = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    batch[0] = 0
    return batch


@pytest.fixture
def make_small() -> Callable[[], nn.Module]:
    return small_network


@pytest.fixture
def make_images() -> Callable[[int], Tensor]:
    return images
