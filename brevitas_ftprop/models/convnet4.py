"""The paper's 4-layer convolutional network for CIFAR-10."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from .layers import LayerOptions, Layers, check_sizes

SMALLEST_INPUT = 2


class ConvNet4(nn.Module):
    """Four layers without batch norm: two convolutions and two fully connected ones.

    ======  ==========================================  ===========
    stage   layers                                      32 × 32
    ======  ==========================================  ===========
    conv0   conv 5×5 pad 3 with bias, max pool 2, act   32 × 17²
    conv1   conv 5×5 pad 2 with bias, max pool 2, act   64 × 8²
    fc0     linear with bias, act                       1024
    fc1     linear with bias, float                     num_classes
    ======  ==========================================  ===========

    The hardware form quantizes its input to 8 bits and has a batch norm after conv0, conv1 and
    fc0, quantized weights and no bias; what ``QuantAlexNet`` says of exact sums holds here too.

    Args:
        num_classes: number of logits.
        image_size: height and width of the images, 2 or more.
        channels: output channels of conv0 and conv1.
        fc: width of fc0.
        **options: see :class:`LayerOptions`.

    Shape:
        float (N, 3, image_size, image_size) → (N, num_classes).

    Raises:
        ValueError, TypeError: for an unknown option, too small an input, sizes below 1.

    >>> import torch
    >>> model = ConvNet4(10, 8, channels=(4, 4), fc=8, rule="saturated_ste").eval()
    >>> model(torch.zeros(1, 3, 8, 8)).shape
    torch.Size([1, 10])

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573, section 4; afriesen/ftprop
        ``models/convnet4.py`` (layers).
    """

    def __init__(
        self,
        num_classes: int = 10,
        image_size: int = 32,
        *,
        channels: Sequence[int] = (32, 64),
        fc: int = 1024,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        layers = Layers(**options)
        check_sizes(num_classes=num_classes, image_size=image_size, channels=channels, fc=fc)
        if len(channels) != 2:
            raise ValueError(f"channels are those of two convolutions, not {channels!r}")
        if image_size < SMALLEST_INPUT:
            raise ValueError(
                f"ConvNet4 takes images of {SMALLEST_INPUT}×{SMALLEST_INPUT} or more, "
                f"not {image_size}×{image_size}"
            )
        c0, c1 = channels
        side = (image_size + 2) // 2 // 2
        is_hardware = layers.is_hardware
        self.features = nn.Sequential(
            OrderedDict(
                **({"input": layers.input_quantizer()} if is_hardware else {}),
                conv0=layers.conv(3, c0, 5, padding=3, bias=True, is_first=True),
                **({"norm0": layers.norm(c0, pooled=4)} if is_hardware else {}),
                pool0=nn.MaxPool2d(2),
                act0=layers.activation(),
                conv1=layers.conv(c0, c1, 5, padding=2, bias=True),
                **({"norm1": layers.norm(c1, pooled=4)} if is_hardware else {}),
                pool1=nn.MaxPool2d(2),
                act1=layers.activation(),
            )
        )
        self.classifier = nn.Sequential(
            OrderedDict(
                fc0=layers.linear(c1 * side * side, fc, bias=True),
                **({"norm2": nn.BatchNorm1d(fc)} if is_hardware else {}),
                act2=layers.activation(),
                fc1=layers.linear(fc, num_classes, bias=True, is_last=True),
            )
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).flatten(1))
