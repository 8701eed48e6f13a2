"""torchvision's float networks, full or with few channels, and what Brevitas makes of them."""

from __future__ import annotations

from torch import nn
from torchvision import models
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vgg import VGG, make_layers

CLASSES = 10


class NarrowResNet(ResNet):
    """torchvision's ResNet with another width."""

    def __init__(
        self, base: int, block: type = BasicBlock, layers: tuple[int, ...] = (2, 2, 2, 2)
    ) -> None:
        super().__init__(block, list(layers), num_classes=CLASSES)
        self.inplanes = base
        self.conv1 = nn.Conv2d(3, base, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(base)
        for index, count in enumerate(layers):
            stage = self._make_layer(block, base << index, count, stride=1 + (index > 0))
            setattr(self, f"layer{index + 1}", stage)
        self.fc = nn.Linear(8 * base * block.expansion, CLASSES)


def narrow_bottlenecks() -> nn.Module:
    """A ResNet of bottlenecks, as torchvision's ResNet-50."""
    return NarrowResNet(4, Bottleneck, (1, 1, 1, 1))


def alexnet(*, full: bool = False) -> nn.Module:
    """AlexNet for 224×224, full or with 8 to 16 channels, without its dropout."""
    model = models.alexnet(dropout=0.0, **({} if full else {"num_classes": CLASSES}))
    if not full:
        widths = {0: (3, 8), 3: (8, 12), 6: (12, 16), 8: (16, 12), 10: (12, 8)}
        for index, channels in widths.items():
            old = model.features[index]
            assert isinstance(old, nn.Conv2d)
            sizes = old.kernel_size, old.stride, old.padding
            model.features[index] = nn.Conv2d(*channels, *sizes)  # pyright: ignore[reportArgumentType]
        for index, sizes in {1: (288, 16), 4: (16, 16), 6: (16, CLASSES)}.items():
            model.classifier[index] = nn.Linear(*sizes)
    return model


def resnet18(*, full: bool = False) -> nn.Module:
    """ResNet-18 for 224×224, or with 4 to 32 channels."""
    return models.resnet18() if full else NarrowResNet(4)


def vgg11_bn(*, full: bool = False) -> nn.Module:
    """VGG-11 with batch norm for 224×224, full or with 4 to 32 channels, without its dropout."""
    if full:
        return models.vgg11_bn(dropout=0.0)
    layers = [4, "M", 8, "M", 16, 16, "M", 32, 32, "M", 32, 32, "M"]
    model = VGG(make_layers(layers, batch_norm=True), num_classes=CLASSES, dropout=0.0)
    sizes = (32 * 7 * 7, 32), (32, 32), (32, CLASSES)
    for index, each in zip((0, 3, 6), sizes, strict=True):
        model.classifier[index] = nn.Linear(*each)
    return model


def mobilenet_v2(*, full: bool = False) -> nn.Module:
    """MobileNet-v2 for 224×224, or a quarter as wide, without its dropout."""
    return models.mobilenet_v2(
        dropout=0.0, **({} if full else {"num_classes": CLASSES, "width_mult": 0.25})
    )


def quantized_by_brevitas(model: nn.Module) -> nn.Module:
    """What ``brevitas.graph.quantize`` makes of a float network by itself: 8 bits everywhere."""
    from brevitas.graph.quantize import preprocess_for_quantize, quantize

    return quantize(preprocess_for_quantize(model))
