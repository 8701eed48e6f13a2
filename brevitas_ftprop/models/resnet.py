"""ResNet-18 with quantized activations."""

from __future__ import annotations

from typing import Literal, Unpack

import brevitas.nn as qnn
from torch import Tensor, nn

from .layers import LayerOptions, Layers, check_sizes

STEMS = ("imagenet", "cifar")


class QuantResNet18(nn.Module):
    """ResNet-18 with every ReLU replaced by a quantized activation.

    ==============  ====================================================  ==============
    stage           layers                                                output
    ==============  ====================================================  ==============
    stem, imagenet  conv 7×7 stride 2 pad 3, BN, act,                     64 × (H/4)²
                    max pool 3 stride 2 pad 1
    stem, cifar     conv 3×3 pad 1, BN, act                               64 × H²
    layer1          2 blocks                                              64 × h²
    layer2          2 blocks, the first with stride 2                     128 × (h/2)²
    layer3          2 blocks, the first with stride 2                     256 × (h/4)²
    layer4          2 blocks, the first with stride 2                     512 × (h/8)²
    fc              global average pool, linear with bias, float          num_classes
    ==============  ====================================================  ==============

    A block is act(BN(conv3×3(act(BN(conv3×3(x))))) + shortcut(x)), the shortcut a 1×1 convolution
    and BN where the shape changes and the identity elsewhere. Parameters have torchvision's names,
    so its state dict loads into the paper form with float weights.

    The hardware form quantizes its input to 8 bits and its weights, has no bias, and sends both
    summands of a block through one shared signed quantizer, whose scale is a power of two, before
    it adds them as plain tensors; what ``QuantAlexNet`` says of exact sums holds here too (the
    global average is exact where it is one of a power of two of values).

    Args:
        num_classes: number of logits.
        stem: ``"imagenet"`` or ``"cifar"``.
        base: channels of the stem and layer1, doubled by each following layer.
        residual_bits: hardware form: bits of the shared quantizer, 2 to 8.
        **options: see :class:`LayerOptions`.

    Shape:
        float (N, 3, H, W) → (N, num_classes).

    Raises:
        ValueError, TypeError: for an unknown option or sizes below 1.

    >>> import torch
    >>> model = QuantResNet18(10, "cifar", base=4, act="int2", form="hardware").eval()
    >>> model(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 10])

    References:
        He et al., CVPR 2016, arXiv:1512.03385; ``torchvision.models.resnet18``; Friesen &
        Domingos, ICLR 2018, arXiv:1710.11573, section 4 (activations).
    """

    def __init__(
        self,
        num_classes: int = 1000,
        stem: Literal["imagenet", "cifar"] = "imagenet",
        *,
        base: int = 64,
        residual_bits: int = 4,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        layers = Layers(**options)
        check_sizes(num_classes=num_classes, base=base)
        if stem not in STEMS:
            raise ValueError(f"stem must be one of {', '.join(STEMS)}, not {stem!r}")
        self.input = layers.input_quantizer() if layers.is_hardware else nn.Identity()
        if stem == "imagenet":
            self.conv1 = layers.conv(3, base, 7, stride=2, padding=3, is_first=True)
        else:
            self.conv1 = layers.conv(3, base, 3, padding=1, is_first=True)
        self.bn1 = layers.norm(base, pooled=9 if stem == "imagenet" else 1)
        self.act1 = layers.activation()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if stem == "imagenet" else nn.Identity()
        self.layer1 = _stage(layers, base, base, 1, residual_bits)
        self.layer2 = _stage(layers, base, 2 * base, 2, residual_bits)
        self.layer3 = _stage(layers, 2 * base, 4 * base, 2, residual_bits)
        self.layer4 = _stage(layers, 4 * base, 8 * base, 2, residual_bits)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = layers.linear(8 * base, num_classes, bias=True, is_last=True)
        # Bounded weights suit scales that follow the largest weight.
        init = nn.init.kaiming_normal_ if layers.has_float_weights else nn.init.kaiming_uniform_
        for module in self.modules():
            if isinstance(module, qnn.QuantConv2d):
                init(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        x = self.maxpool(self.act1(self.bn1(self.conv1(self.input(images)))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


class _Block(nn.Module):
    def __init__(
        self, layers: Layers, in_channels: int, channels: int, stride: int, residual_bits: int
    ) -> None:
        super().__init__()
        self.conv1 = layers.conv(in_channels, channels, 3, stride=stride, padding=1)
        self.bn1 = layers.norm(channels)
        self.act1 = layers.activation()
        self.conv2 = layers.conv(channels, channels, 3, padding=1)
        self.bn2 = layers.norm(channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                layers.conv(in_channels, channels, 1, stride=stride), layers.norm(channels)
            )
        is_hardware = layers.is_hardware
        self.summand = layers.residual_quantizer(residual_bits) if is_hardware else nn.Identity()
        self.act2 = layers.activation()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        return self.act2(self.summand(y) + self.summand(shortcut))


def _stage(
    layers: Layers, in_channels: int, channels: int, stride: int, residual_bits: int
) -> nn.Sequential:
    return nn.Sequential(
        _Block(layers, in_channels, channels, stride, residual_bits),
        _Block(layers, channels, channels, 1, residual_bits),
    )
