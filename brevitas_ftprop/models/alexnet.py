"""The DoReFa AlexNet of the paper."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from .layers import LayerOptions, Layers, check_sizes

EPS = 1e-4
SMALLEST_INPUT = 60


class QuantAlexNet(nn.Module):
    """AlexNet as DoReFa-Net restructured it, with quantized activations.

    ======  =======================================================  ==========  ==========
    stage   layers                                                   224 × 224   64 × 64
    ======  =======================================================  ==========  ==========
    conv0   conv 12×12 stride 4, act                                 96 × 54²    96 × 14²
    conv1   conv 5×5 pad 2, BN, max pool 3 stride 2 pad 1, act       256 × 27²   256 × 7²
    conv2   conv 3×3 pad 1, BN, max pool 3 stride 2, act             384 × 13²   384 × 3²
    conv3   conv 3×3 pad 1, BN, act                                  384 × 13²   384 × 3²
    conv4   conv 3×3 pad 1, BN, max pool 3 stride 2, act             256 × 6²    256 × 1²
    fc0     linear, BN, act                                          4096        4096
    fc1     linear, BN, act                                          4096        4096
    fc2     linear with bias, float                                  num_classes num_classes
    ======  =======================================================  ==========  ==========

    The hardware form quantizes its input to 8 bits, has a batch norm after conv0 too, quantized
    weights and no bias. Its sums of activations times weights are exact in float32 as long as
    they stay below 2**24 in units of the two scales.

    Args:
        num_classes: number of logits.
        image_size: height and width of the images, 60 or more.
        channels: output channels of conv0 … conv4.
        fc: width of fc0 and fc1.
        **options: see :class:`LayerOptions`.

    Shape:
        float (N, 3, image_size, image_size) → (N, num_classes).

    Raises:
        ValueError, TypeError: for an unknown option, too small an input, sizes below 1.

    >>> import torch
    >>> model = QuantAlexNet(10, 64, channels=(4, 4, 4, 4, 4), fc=8, act="staircase3").eval()
    >>> model(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 10])

    References:
        Zhou et al., DoReFa-Net, arXiv:1606.06160; Friesen & Domingos, ICLR 2018,
        arXiv:1710.11573, section 4; afriesen/ftprop ``models/alexnet_dorefa.py`` (layers, without
        DoReFa's groups and first bias).
    """

    def __init__(
        self,
        num_classes: int = 1000,
        image_size: int = 224,
        *,
        channels: Sequence[int] = (96, 256, 384, 384, 256),
        fc: int = 4096,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        layers = Layers(**options)
        check_sizes(num_classes=num_classes, image_size=image_size, channels=channels, fc=fc)
        if len(channels) != 5:
            raise ValueError(f"channels are those of five convolutions, not {channels!r}")
        if image_size < SMALLEST_INPUT:
            raise ValueError(
                f"QuantAlexNet takes images of {SMALLEST_INPUT}×{SMALLEST_INPUT} or more, "
                f"not {image_size}×{image_size}"
            )
        c0, c1, c2, c3, c4 = channels
        side = _last_side(image_size)
        is_hardware = layers.is_hardware
        self.features = nn.Sequential(
            OrderedDict(
                **({"input": layers.input_quantizer()} if is_hardware else {}),
                conv0=layers.conv(3, c0, 12, stride=4, is_first=True),
                **({"norm0": layers.norm(c0, eps=EPS)} if is_hardware else {}),
                act0=layers.activation(),
                conv1=layers.conv(c0, c1, 5, padding=2),
                norm1=layers.norm(c1, eps=EPS, pooled=9),
                pool1=nn.MaxPool2d(3, 2, padding=1),
                act1=layers.activation(),
                conv2=layers.conv(c1, c2, 3, padding=1),
                norm2=layers.norm(c2, eps=EPS, pooled=9),
                pool2=nn.MaxPool2d(3, 2),
                act2=layers.activation(),
                conv3=layers.conv(c2, c3, 3, padding=1),
                norm3=layers.norm(c3, eps=EPS),
                act3=layers.activation(),
                conv4=layers.conv(c3, c4, 3, padding=1),
                norm4=layers.norm(c4, eps=EPS, pooled=9),
                pool4=nn.MaxPool2d(3, 2),
                act4=layers.activation(),
            )
        )
        self.classifier = nn.Sequential(
            OrderedDict(
                fc0=layers.linear(c4 * side * side, fc),
                norm5=nn.BatchNorm1d(fc, eps=EPS),
                act5=layers.activation(),
                fc1=layers.linear(fc, fc),
                norm6=nn.BatchNorm1d(fc, eps=EPS),
                act6=layers.activation(),
                fc2=layers.linear(fc, num_classes, bias=True, is_last=True),
            )
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).flatten(1))


def _last_side(image_size: int) -> int:
    after_conv0 = (image_size - 12) // 4 + 1
    after_pool1 = (after_conv0 + 2 - 3) // 2 + 1
    after_pool2 = (after_pool1 - 3) // 2 + 1
    return (after_pool2 - 3) // 2 + 1
