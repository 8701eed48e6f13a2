"""Small networks of the kinds that hls4ml projects are made from."""

from __future__ import annotations

from collections.abc import Callable

import brevitas.nn as qnn
import torch
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8WeightPerChannelFloat,
    ShiftedUint8ActPerTensorFloat,
    Uint8ActPerTensorFloat,
)
from torch import nn

from brevitas_ftprop.models import ConvNet4
from brevitas_ftprop.models.layers import Layers
from brevitas_ftprop.quant import (
    TargetPropInt8WeightPerTensorFixedPoint,
    TargetPropSignedBinaryActPerTensorConst,
    TargetPropSignedTernaryActPerTensorConst,
    TargetPropStaircase5ActPerTensorFixedPoint,
    TargetPropUint8ActPerTensorFixedPoint,
)


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


class Skip(nn.Module):
    """A layer's result and its input, behind one shared quantizer, are added."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.summand = Layers(form="hardware").residual_quantizer(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.summand(self.layers(x)) + self.summand(x)


def dense_network() -> nn.Module:
    """Fully connected; ternary and five-step activations, a zero-point, a skip, biases."""
    return nn.Sequential(
        image_quantizer(),
        qnn.QuantLinear(6, 8, bias=True, weight_bit_width=4),
        qnn.QuantIdentity(act_quant=TargetPropSignedTernaryActPerTensorConst),
        Skip(qnn.QuantLinear(8, 8, bias=True, weight_bit_width=4)),
        qnn.QuantIdentity(act_quant=ShiftedUint8ActPerTensorFloat, bit_width=3),
        qnn.QuantLinear(8, 8, bias=True, weight_bit_width=4),
        qnn.QuantIdentity(act_quant=TargetPropStaircase5ActPerTensorFixedPoint),
    )


class Block(nn.Module):
    """Two convolutions and a shortcut, their sum behind one shared quantizer."""

    def __init__(
        self, layers: Layers, entering: int, leaving: int, stride: int = 1, bits: int = 4
    ) -> None:
        super().__init__()
        self.conv1 = layers.conv(entering, leaving, 3, stride=stride, padding=1)
        self.norm1, self.act1 = nn.BatchNorm2d(leaving), layers.activation()
        self.conv2, self.norm2 = layers.conv(leaving, leaving, 1), nn.BatchNorm2d(leaving)
        self.shortcut = nn.Identity()
        if entering != leaving or stride > 1:
            conv = layers.conv(entering, leaving, 1, stride=stride)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(leaving))
        self.summand, self.act2 = layers.residual_quantizer(bits), layers.activation()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.conv2(self.act1(self.norm1(self.conv1(x)))))
        return self.act2(self.summand(y) + self.summand(self.shortcut(x)))


def residual_network() -> nn.Module:
    """Sums of branches, a padded pool whose windows overlap, a global average of 9 pixels."""
    layers = Layers(act="int2", form="hardware")
    return nn.Sequential(
        layers.input_quantizer(),
        layers.conv(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        layers.activation(),
        nn.MaxPool2d(3, 2, padding=1),
        Block(layers, 4, 4),
        Block(layers, 4, 6, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        layers.linear(6, 10, is_last=True),
    )


def map_network() -> nn.Module:
    """Signs that a pool pads, a depthwise layer, averages of windows; gives a map."""
    layers = Layers(act="sign", form="hardware")
    depthwise = TargetPropInt8WeightPerTensorFixedPoint
    return nn.Sequential(
        layers.input_quantizer(),
        layers.conv(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        layers.activation(),
        nn.MaxPool2d(2, padding=1),
        qnn.QuantConv2d(4, 4, 3, padding=1, groups=4, bias=False, weight_quant=depthwise),
        nn.BatchNorm2d(4),
        layers.activation(),
        nn.AvgPool2d(2, 1),
        layers.conv(4, 5, 1),
        nn.BatchNorm2d(5),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        layers.activation(),
    )


def signal_network() -> nn.Module:
    """On signals: padded, dilated and depthwise convolutions, pools, an average, a linear head."""
    layers = Layers(act="int2", form="hardware")
    weights = {"weight_quant": TargetPropInt8WeightPerTensorFixedPoint, "bias": False}
    return nn.Sequential(
        layers.input_quantizer(),
        qnn.QuantConv1d(3, 4, 5, stride=2, padding=2, weight_bit_width=4, **weights),
        nn.BatchNorm1d(4),
        layers.activation(),
        nn.MaxPool1d(3, 2, padding=1),
        qnn.QuantConv1d(4, 4, 3, padding=2, dilation=2, groups=4, weight_bit_width=4, **weights),
        layers.activation(),
        nn.AvgPool1d(2),
        qnn.QuantConv1d(4, 6, 1, weight_bit_width=2, **weights),
        nn.BatchNorm1d(6),
        layers.activation(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        layers.linear(6, 10, is_last=True),
    )


class Joined(nn.Module):
    """Branches of several scales side by side, as maps and as features; a truncated average."""

    def __init__(self) -> None:
        super().__init__()
        layers = Layers(act="int2", form="hardware", weight_scale="channel")
        self.image = layers.input_quantizer()
        self.convs = nn.ModuleList(layers.conv(2, 2, size, padding=size // 2) for size in (1, 3))
        self.norm, self.act = nn.BatchNorm2d(8), layers.activation()
        unsigned = {"act_quant": TargetPropUint8ActPerTensorFixedPoint, "bit_width": 4}
        self.wide = qnn.QuantReLU(**unsigned, return_quant_tensor=True)
        self.truncated = qnn.TruncAvgPool2d(
            2, bit_width=3, float_to_int_impl_type="FLOOR", return_quant_tensor=False
        )
        self.shared = layers.activation()
        self.last = layers.linear(8 * 8, 5, is_last=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.image(x)
        x = torch.cat([self.convs[0](x), x, self.convs[1](x), 2 * x], 1)
        x = self.act(self.norm(x))
        y = self.shared(self.truncated(self.wide(x)))
        z = self.shared(nn.functional.max_pool2d(x, 2))
        return self.last(torch.cat([y.flatten(1), z.flatten(1)], 1))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers = Layers(act="int2", form="hardware", weight_scale="channel")
        self.norm, self.image = nn.BatchNorm2d(2), layers.input_quantizer()
        self.conv, self.signed = layers.conv(2, 2, 1), layers.residual_quantizer(4)
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        options = {"groups": 2, "bias": False, "weight_bit_width": 4}
        self.depthwise = qnn.QuantConv2d(2, 2, 3, padding=1, **options)
        # 4 bits to 2 of the same scale: the type alone saturates.
        unsigned = TargetPropUint8ActPerTensorFixedPoint
        self.wide, self.narrow = (
            layers._fixed_point(unsigned, bits, 2.0**bits / 8) for bits in (4, 2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.signed(self.conv(self.image(self.norm(x)))))
        y = self.narrow(self.wide(self.depthwise(x)))
        return nn.functional.avg_pool2d(y, 2) + nn.functional.avg_pool2d(x, 2)


def small_network() -> nn.Module:
    """All of this in few layers; a normalization stands before the first quantizer."""
    return Small()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{act: (lambda act=act: hardware_network(act), (3, 8, 8)) for act in
       ("sign", "int2", "staircase3", "staircase5")},
    "int4": (lambda: channel_network("int4"), (3, 8, 8)),
    "pool first": (pool_first_network, (3, 8, 8)),
    "free scales": (free_scales_network, (3, 8, 8)),
    "dense": (dense_network, (6,)),
    "residual": (residual_network, (3, 9, 9)),
    "map": (map_network, (3, 7, 7)),
    "small": (small_network, (2, 4, 4)),
    "joined": (Joined, (2, 4, 4)),
    "signal": (signal_network, (3, 32)),
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
