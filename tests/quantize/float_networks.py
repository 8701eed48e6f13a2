"""Float networks: torchvision's with few channels, and small ones drawn at random."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import AlexNet, MobileNetV2
from torchvision.models.resnet import BasicBlock
from torchvision.models.vgg import VGG, make_layers

from examples.others.of_torchvision import CLASSES, NarrowResNet, narrow_bottlenecks


def narrow_alexnet() -> AlexNet:
    """torchvision's AlexNet for 224×224 with 4 channels."""
    model = AlexNet(num_classes=CLASSES)
    pools = (nn.ReLU(inplace=True), nn.MaxPool2d(3, 2))
    first = (nn.Conv2d(3, 4, 11, 4, 2), *pools, nn.Conv2d(4, 4, 5, padding=2), *pools)
    model.features = nn.Sequential(*first, nn.Conv2d(4, 4, 3, padding=1), *pools)
    hidden = (nn.Dropout(), nn.Linear(144, 16), nn.ReLU(inplace=True))
    model.classifier = nn.Sequential(*hidden, nn.Linear(16, CLASSES))
    return model


def narrow_vgg() -> VGG:
    """torchvision's VGG with batch norm for 28×28, of two convolutions."""
    model = VGG(make_layers([4, "M", 8, "M"], batch_norm=True), num_classes=CLASSES)
    model.classifier = nn.Sequential(nn.Linear(392, 16), nn.ReLU(True), nn.Linear(16, CLASSES))
    return model


# With the size of their images.
NARROW: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "alexnet": (narrow_alexnet, 224),
    "mobilenet_v2": (lambda: MobileNetV2(num_classes=CLASSES, width_mult=0.25), 64),
    "resnet10": (lambda: NarrowResNet(4, BasicBlock, (1, 1, 1, 1)), 64),
    "resnet18": (lambda: NarrowResNet(4), 64),
    "resnet26_bottleneck": (narrow_bottlenecks, 64),
    "vgg_bn": (narrow_vgg, 28),
}


def narrow(name: str) -> tuple[nn.Module, Tensor]:
    """A narrow network with statistics in its batch norms, in evaluation mode, and images."""
    build, size = NARROW[name]
    torch.manual_seed(0)
    images = torch.randn(4, 3, size, size)
    return settled(build(), images), images


def settled(model: nn.Module, images: Tensor) -> nn.Module:
    """The model with batch norms that have seen images and differ from channel to channel."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    with torch.no_grad():
        for _ in range(3):
            model.train()(images)
    return model.eval()


class Residual(nn.Module):
    """A sum of branches, spelled in one of the ways that people do."""

    def __init__(self, main: nn.Module, shortcut: nn.Module, spelling: str) -> None:
        super().__init__()
        self.main, self.shortcut, self.spelling = main, shortcut, spelling

    def forward(self, x: Tensor) -> Tensor:
        y, shortcut = self.main(x), self.shortcut(x)
        if self.spelling == "+=":
            y += shortcut
            return y
        if self.spelling == "add_":
            return y.add_(shortcut)
        if self.spelling == "torch.add":
            return torch.add(y, other=shortcut)
        if self.spelling == "cat":
            return torch.cat([y, shortcut], 1)
        if self.spelling == "*":
            return y * shortcut
        return shortcut + y


class Called(nn.Module):
    """A function as a module that ``torch.fx`` looks into."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


RELUS: tuple[Callable[[], nn.Module], ...] = (
    nn.ReLU,
    lambda: nn.ReLU(inplace=True),
    nn.ReLU6,
    lambda: nn.Hardtanh(0, 2),
    lambda: Called(functional.relu),
    lambda: Called(torch.relu),
    lambda: Called(lambda x: functional.relu(x, inplace=True)),
    lambda: Called(lambda x: x.relu()),
    lambda: Called(lambda x: x.clamp(min=0)),
    lambda: Called(lambda x: torch.clamp(x, 0, 4)),
)
# Each is refused wherever it stands.
UNSOUND: dict[str, Callable[[int], nn.Module]] = {
    "curved": lambda channels: nn.Hardswish(),
    "curved function": lambda channels: Called(functional.silu),
    "window average": lambda channels: nn.AvgPool2d(3, 1, 1),
    "concatenation": lambda channels: nn.Sequential(
        Residual(nn.Conv2d(channels, channels, 1), nn.Identity(), "cat"),
        nn.Conv2d(2 * channels, channels, 1),
    ),
    "product": lambda channels: Residual(nn.Conv2d(channels, channels, 1), nn.Identity(), "*"),
    "groups": lambda channels: nn.Conv2d(channels, channels, 3, padding=1, groups=2),
    "layer norm": lambda channels: nn.GroupNorm(1, channels),
}


def draw(seed: int) -> tuple[nn.Module, Tensor, str | None]:
    """A float network, images for it, and which unsound part it has, if any; one a seed."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    images = torch.randn(4, 3, 12, 12)
    unsound = rng.choice([None, None, *UNSOUND]) if rng.random() < 0.5 else None
    channels = rng.choice((4, 8))
    layers: list[nn.Module] = []
    if rng.random() < 0.2:
        layers.append(nn.BatchNorm2d(3))
    layers += _conv(rng, 3, channels, norm=rng.random() < 0.7)
    for _ in range(rng.randint(1, 3)):
        part = rng.choice((_chain, _chain, _residual, _residual, _preactivation))
        layers.append(part(rng, channels))
        if rng.random() < 0.3 and _side(layers, images) >= 6:
            layers.append(nn.MaxPool2d(2))
    if unsound is not None:
        layers.append(UNSOUND[unsound](channels))
    layers += _head(rng, channels, _side(layers, images))
    return settled(nn.Sequential(*layers), images), images, unsound


def _side(layers: list[nn.Module], images: Tensor) -> int:
    with torch.no_grad():
        return nn.Sequential(*layers)(images).shape[-1]


def _conv(rng: random.Random, entering: int, leaving: int, *, norm: bool) -> list[nn.Module]:
    kernel = rng.choice((1, 3))
    groups = entering if entering == leaving and rng.random() < 0.25 else 1
    conv = nn.Conv2d(
        entering, leaving, kernel, padding=kernel // 2, groups=groups, bias=rng.random() < 0.5
    )
    return [conv, nn.BatchNorm2d(leaving)] if norm else [conv]


def _chain(rng: random.Random, channels: int) -> nn.Module:
    layers = _conv(rng, channels, channels, norm=rng.random() < 0.7)
    if rng.random() < 0.7:
        layers.append(rng.choice(RELUS)())
    if rng.random() < 0.2:
        layers.append(rng.choice((nn.Dropout, nn.Dropout2d, nn.Identity))())
    return nn.Sequential(*layers)


def _residual(rng: random.Random, channels: int) -> nn.Module:
    main = nn.Sequential(
        *_conv(rng, channels, channels, norm=True),
        rng.choice(RELUS)(),
        *_conv(rng, channels, channels, norm=True),
    )
    shortcut = nn.Identity()
    if rng.random() < 0.4:
        shortcut = nn.Sequential(*_conv(rng, channels, channels, norm=rng.random() < 0.7))
    block: nn.Module = Residual(main, shortcut, rng.choice(("+", "+=", "add_", "torch.add")))
    return nn.Sequential(block, rng.choice(RELUS)()) if rng.random() < 0.6 else block


def _preactivation(rng: random.Random, channels: int) -> nn.Module:
    # Not in place: the shortcut reads what the ReLU would change.
    main = nn.Sequential(
        nn.BatchNorm2d(channels), nn.ReLU(), *_conv(rng, channels, channels, norm=False)
    )
    return Residual(main, nn.Identity(), "+")


def _head(rng: random.Random, channels: int, side: int) -> list[nn.Module]:
    kind = rng.choice(("average", "mean", "adaptive function", "flatten", "hidden"))
    features = channels if kind in ("average", "mean", "adaptive function") else channels * side**2
    first = {
        "average": [nn.AdaptiveAvgPool2d(1), nn.Flatten()],
        "mean": [Called(lambda x: x.mean((2, 3)))],
        "adaptive function": [Called(lambda x: functional.adaptive_avg_pool2d(x, 1).flatten(1))],
        "flatten": [Called(lambda x: x.view(x.size(0), -1)), nn.Dropout()],
        "hidden": [Called(lambda x: torch.flatten(x, 1))],
    }[kind]
    if kind == "hidden":
        norm = [nn.BatchNorm1d(8)] if rng.random() < 0.5 else []
        first += [nn.Linear(features, 8), *norm, rng.choice(RELUS)()]
        features = 8
    return [*first, nn.Linear(features, 3, bias=rng.random() < 0.7)]
