"""Small networks whose quantizers' figures can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU
from torch import nn

from brevitas_ftprop.quant import (
    TargetPropInt8ActPerTensorFloat,
    TargetPropInt8WeightPerChannelFloat,
    TargetPropSignedBinaryActPerTensorConst,
    TargetPropSignedBinaryWeightPerTensorConst,
    TargetPropStaircase3ActPerTensorConst,
    TargetPropUint8ActPerTensorFloat,
)


def mixed_network() -> nn.Sequential:
    """Sign, staircase and integer activations, binary and 4-bit weights, batch norm, dropout."""
    return nn.Sequential(
        QuantConv2d(
            3,
            6,
            3,
            bias=False,
            weight_quant=TargetPropInt8WeightPerChannelFloat,
            weight_bit_width=4,
        ),
        nn.BatchNorm2d(6),
        QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst),
        QuantConv2d(6, 6, 3, bias=False, weight_quant=TargetPropSignedBinaryWeightPerTensorConst),
        nn.BatchNorm2d(6),
        QuantReLU(act_quant=TargetPropUint8ActPerTensorFloat, bit_width=2, rule="saturated_ste"),
        nn.Flatten(),
        nn.Dropout(0.2),
        QuantLinear(96, 12, bias=True, weight_quant=TargetPropInt8WeightPerChannelFloat),
        QuantIdentity(act_quant=TargetPropStaircase3ActPerTensorConst, rule="hinge"),
        nn.Linear(12, 12),
        QuantIdentity(act_quant=TargetPropInt8ActPerTensorFloat, bit_width=3, staircase="sum"),
        nn.Linear(12, 4),
    )


@pytest.fixture
def network() -> nn.Sequential:
    return mixed_network()


@pytest.fixture
def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [
        (
            torch.randn(10, 3, 8, 8, generator=generator),
            torch.randint(4, (10,), generator=generator),
        )
        for _ in range(6)
    ]


@pytest.fixture
def train() -> Callable:
    def run(model, batches, monitor=None, **options):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        losses = []
        for images, labels in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if monitor is not None:
                monitor.step(**options)
        return losses

    return run
