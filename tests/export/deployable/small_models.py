"""Layers of the smallest models that FINN can or cannot take, and what the check finds in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brevitas.nn as qnn
import torch
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8WeightPerTensorFixedPoint,
    Int32Bias,
    SignedBinaryActPerTensorConst,
    Uint8ActPerTensorFixedPoint,
)
from torch import Tensor, nn

from brevitas_ftprop import quant
from brevitas_ftprop.export.deployable import check_deployable
from brevitas_ftprop.export.deployable.finding import ERROR
from brevitas_ftprop.export.deployable.finn_requirements import FINN_REQUIREMENTS
from tests.export.deployable.architectures import settle

SIZE = 6


def act(bits: int = 2, **options) -> nn.Module:
    return qnn.QuantReLU(act_quant=Uint8ActPerTensorFixedPoint, bit_width=bits, **options)


def signed(bits: int = 4, **options) -> nn.Module:
    return qnn.QuantIdentity(act_quant=Int8ActPerTensorFixedPoint, bit_width=bits, **options)


def per_channel(act_quant: type = quant.TargetPropUint8ActPerChannelFloat) -> nn.Module:
    return qnn.QuantIdentity(
        act_quant=act_quant,
        bit_width=4,
        scaling_per_output_type="channel",
        per_channel_broadcastable_shape=(1, 3, 1, 1),
        scaling_stats_permute_dims=(1, 0, 2, 3),
    )


def conv(channels: int = 3, kernel: int = 3, padding: int = 1, **options) -> nn.Module:
    options = {"weight_quant": Int8WeightPerTensorFixedPoint, "weight_bit_width": 4} | options
    return qnn.QuantConv2d(3, channels, kernel, padding=padding, bias=False, **options)


def linear(features: int, **options) -> nn.Module:
    options = {"weight_quant": Int8WeightPerTensorFixedPoint, "weight_bit_width": 4} | options
    return qnn.QuantLinear(features, 2, bias=False, **options)


def seq(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


class Joined(nn.Module):
    """An image's quantizer, and a function of what it gives and the layers of one's own."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.image, self.layers, self.function = signed(8), nn.ModuleList(layers), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.image(x), *self.layers)


class Sum(nn.Module):
    """What two branches give, added."""

    def __init__(self, left: nn.Module, right: nn.Module) -> None:
        super().__init__()
        self.left, self.right = left, right

    def forward(self, x: Tensor) -> Tensor:
        return self.left(x) + self.right(x)


class View(nn.Module):
    """A flattening that exporters write as Reshape."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1)


class Then(nn.Module):
    """A function of what stands before it."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Times(nn.Module):
    """A factor and a summand."""

    def __init__(self, factor: float, plus: float = 0.0) -> None:
        super().__init__()
        self.factor, self.plus = factor, plus

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor + self.plus if self.plus else x * self.factor


def negative_norm() -> nn.Module:
    norm = nn.BatchNorm2d(3)
    with torch.no_grad():
        norm.weight[:2] *= -1
    return norm


def edited(layers: nn.Sequential, edit: Callable[[nn.Sequential], object]) -> nn.Sequential:
    settle(layers, (3, SIZE, SIZE))
    edit(layers)
    return layers


MEAN = nn.AdaptiveAvgPool2d
PER_CHANNEL = quant.TargetPropInt8WeightPerChannelFloat


def biased() -> nn.Module:
    options = {"weight_quant": Int8WeightPerTensorFixedPoint, "weight_bit_width": 4}
    return qnn.QuantConv2d(3, 3, 3, bias=True, **options)


def quantized_bias(bias_quant: type = Int32Bias, **options) -> nn.Module:
    """A convolution that wants a quantized tensor, whose scale its bias takes over."""
    options = {"weight_quant": Int8WeightPerTensorFixedPoint, "weight_bit_width": 4} | options
    return qnn.QuantConv2d(3, 3, 3, padding=1, bias=True, bias_quant=bias_quant, **options)


def truncated(kernel: int = 2, bits: int = 4, rounding: str = "FLOOR", **options) -> nn.Module:
    """An average pool that keeps so many bits of its sums; wants a quantized tensor."""
    options = {"bit_width": bits, "float_to_int_impl_type": rounding} | options
    return qnn.TruncAvgPool2d(kernel, **options)


def sign() -> nn.Module:
    return qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst)


def shortcut(layer: nn.Module) -> nn.Module:
    shared = signed()
    return Sum(seq(layer, shared), shared)


def missed_by(model: nn.Module, **options: Any) -> set[str]:
    settle(model, (3, SIZE, SIZE))
    report = check_deployable(model, torch.zeros(1, 3, SIZE, SIZE), dynamo=False, **options)
    return {finding.requirement for finding in report}


WARNINGS = {n for n, requirement in FINN_REQUIREMENTS.items() if requirement.severity != ERROR}
