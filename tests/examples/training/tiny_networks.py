"""Networks small enough to be trained in a test, for ``model: tiny_networks:<factory>``."""

from __future__ import annotations

import torch
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU
from brevitas.quant import (
    Int8WeightPerTensorFloat,
    ShiftedUint8ActPerTensorFloat,
    SignedBinaryActPerTensorConst,
)
from brevitas.quant.scaled_int import Uint8ActPerTensorFloat
from torch import nn


class RunningStatsAct(Uint8ActPerTensorFloat):
    scaling_impl_type = "stats"
    scaling_stats_momentum = 0.2


class Clipped(nn.Sequential):
    def clip_weights(self, low: float, high: float) -> None:
        """Tightly, so that most steps leave the range."""
        for module in self:
            if isinstance(module, QuantConv2d):
                module.weight.data.clamp_(low / 10, high / 10)


def stateful(collect: int = 5, delay: int = 7) -> nn.Module:
    """One of everything that Brevitas counts outside its state dict, and dropout."""
    return Clipped(
        QuantReLU(bit_width=4, collect_stats_steps=collect),
        QuantConv2d(3, 4, 3, stride=2, weight_quant=Int8WeightPerTensorFloat, weight_bit_width=4),
        nn.BatchNorm2d(4),
        QuantReLU(act_quant=RunningStatsAct, bit_width=4),
        nn.Dropout(0.2),
        QuantConv2d(4, 8, 3, stride=2),
        QuantIdentity(
            act_quant=ShiftedUint8ActPerTensorFloat, bit_width=3, collect_stats_steps=collect
        ),
        nn.Flatten(),
        QuantIdentity(act_quant=SignedBinaryActPerTensorConst),
        QuantIdentity(bit_width=4, quant_delay_steps=delay, collect_stats_steps=collect),
        QuantLinear(8, 10, bias=True),
    )


def pooled() -> nn.Module:
    """Of any size of image, with four classes."""
    return nn.Sequential(
        QuantConv2d(3, 4, 3),
        QuantIdentity(act_quant=SignedBinaryActPerTensorConst),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        QuantLinear(4, 4, bias=True),
    )


def out_of_memory() -> nn.Module:
    class Greedy(nn.Sequential):
        def forward(self, x):
            if self.training:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(x)

    return Greedy(nn.Flatten(), QuantIdentity(SignedBinaryActPerTensorConst), QuantLinear(192, 10))


def float_of_stateful() -> nn.Module:
    """The layers of ``stateful`` without quantizers."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(3, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Conv2d(4, 8, 3, stride=2),
        nn.Identity(),
        nn.Flatten(),
        nn.Identity(),
        nn.Identity(),
        nn.Linear(8, 10),
    )


def giving_a_dict() -> nn.Module:
    class Named(nn.Sequential):
        def forward(self, x):
            return {"logits": super().forward(x)}

    return Named(nn.Flatten(), QuantIdentity(SignedBinaryActPerTensorConst), QuantLinear(192, 10))


def failing() -> nn.Module:
    return {}["nothing"]


a_model = nn.Identity()


def floating(classes: int = 10) -> nn.Module:
    """Nothing quantized."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes))
