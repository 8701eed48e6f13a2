"""The paper's 8-layer convolutional network for CIFAR-10: DoReFa's SVHN network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from .layers import LayerOptions, Layers, check_sizes

EPS = 1e-4
# Padding of the first and kernel size of the last convolution, by input size.
EDGES = {32: (2, 4), 40: (0, 5)}


class ConvNet8(nn.Module):
    """Seven convolutions and a fully connected layer.

    ======  ==================================================  ===========  ===========
    stage   layers                                              32 × 32      40 × 40
    ======  ==================================================  ===========  ===========
    conv0   conv 5×5 with bias, max pool 2, act                 48 × 16²     48 × 18²
    conv1   conv 3×3 pad 1, BN, act                             64 × 16²     64 × 18²
    conv2   conv 3×3 pad 1, BN, max pool 2, act                 64 × 8²      64 × 9²
    conv3   conv 3×3, BN, act                                   128 × 6²     128 × 7²
    conv4   conv 3×3 pad 1, BN, act                             128 × 6²     128 × 7²
    conv5   conv 3×3, BN, act, dropout of half the channels     128 × 4²     128 × 5²
    conv6   conv over the whole map, BN, act                    512 × 1²     512 × 1²
    fc      linear with bias, float                             num_classes  num_classes
    ======  ==================================================  ===========  ===========

    conv0 has padding 2 for 32 × 32 images and none for 40 × 40. The hardware form quantizes its
    input to 8 bits, has a batch norm after conv0 too, quantized weights and no bias; what
    ``QuantAlexNet`` says of exact sums holds here too.

    Args:
        num_classes: number of logits.
        image_size: height and width of the images, 32 or 40.
        channels: output channels of conv0 … conv6.
        **options: see :class:`LayerOptions`.

    Shape:
        float (N, 3, image_size, image_size) → (N, num_classes).

    Raises:
        ValueError, TypeError: for an unknown option, another input size, sizes below 1.

    >>> import torch
    >>> model = ConvNet8(10, 32, channels=(4, 4, 4, 4, 4, 4, 8), form="hardware").eval()
    >>> model(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 10])

    References:
        Zhou et al., DoReFa-Net, arXiv:1606.06160; Friesen & Domingos, ICLR 2018,
        arXiv:1710.11573, section 4; afriesen/ftprop ``models/convnet8.py`` (layers).
    """

    def __init__(
        self,
        num_classes: int = 10,
        image_size: int = 32,
        *,
        channels: Sequence[int] = (48, 64, 64, 128, 128, 128, 512),
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        layers = Layers(**options)
        check_sizes(num_classes=num_classes, image_size=image_size, channels=channels)
        if len(channels) != 7:
            raise ValueError(f"channels are those of seven convolutions, not {channels!r}")
        if image_size not in EDGES:
            raise ValueError(
                f"ConvNet8 takes images of 32×32 or 40×40, not {image_size}×{image_size}"
            )
        c0, c1, c2, c3, c4, c5, c6 = channels
        first_padding, last_kernel = EDGES[image_size]
        is_hardware = layers.is_hardware
        self.features = nn.Sequential(
            OrderedDict(
                **({"input": layers.input_quantizer()} if is_hardware else {}),
                conv0=layers.conv(3, c0, 5, padding=first_padding, bias=True, is_first=True),
                **({"norm0": layers.norm(c0, eps=EPS, pooled=4)} if is_hardware else {}),
                pool0=nn.MaxPool2d(2),
                act0=layers.activation(),
                conv1=layers.conv(c0, c1, 3, padding=1),
                norm1=layers.norm(c1, eps=EPS),
                act1=layers.activation(),
                conv2=layers.conv(c1, c2, 3, padding=1),
                norm2=layers.norm(c2, eps=EPS, pooled=4),
                pool2=nn.MaxPool2d(2),
                act2=layers.activation(),
                conv3=layers.conv(c2, c3, 3),
                norm3=layers.norm(c3, eps=EPS),
                act3=layers.activation(),
                conv4=layers.conv(c3, c4, 3, padding=1),
                norm4=layers.norm(c4, eps=EPS),
                act4=layers.activation(),
                conv5=layers.conv(c4, c5, 3),
                norm5=layers.norm(c5, eps=EPS),
                act5=layers.activation(),
                dropout=nn.Dropout2d(0.5),
                conv6=layers.conv(c5, c6, last_kernel),
                norm6=layers.norm(c6, eps=EPS),
                act6=layers.activation(),
            )
        )
        self.fc = layers.linear(c6, num_classes, bias=True, is_last=True)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images).flatten(1))
