"""Narrow versions of every model."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import nn

from brevitas_ftprop.models import ConvNet4, ConvNet8, QuantAlexNet, QuantResNet18


class Narrow(NamedTuple):
    """Builds a model of ten classes for images of ``size`` × ``size``."""

    build: Callable[..., nn.Module]
    size: int

    def images(self, count: int) -> torch.Tensor:
        return torch.randn(count, 3, self.size, self.size)


NARROW = {
    "alexnet": Narrow(
        lambda **options: QuantAlexNet(10, 64, channels=(8, 16, 16, 16, 16), fc=32, **options), 64
    ),
    "resnet18_cifar": Narrow(lambda **options: QuantResNet18(10, "cifar", base=4, **options), 32),
    "resnet18_imagenet": Narrow(
        lambda **options: QuantResNet18(10, "imagenet", base=4, **options), 64
    ),
    "convnet4": Narrow(lambda **options: ConvNet4(10, 32, channels=(8, 16), fc=32, **options), 32),
    "convnet8": Narrow(
        lambda **options: ConvNet8(10, 32, channels=(8, 8, 8, 8, 8, 8, 16), **options), 32
    ),
}


@pytest.fixture(params=NARROW.values(), ids=NARROW.keys())
def narrow(request: pytest.FixtureRequest) -> Narrow:
    return request.param


@pytest.fixture
def narrow_models() -> dict[str, Narrow]:
    return NARROW
