"""The networks that are measured whole: ours, the same with stock quantizers, and without any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from brevitas_ftprop import restore_quantizers, swap_quantizers
from brevitas_ftprop.models import ConvNet8, QuantAlexNet, QuantResNet18

# Quantized activations that stock Brevitas has too.
ACTS = ("sign", *(f"int{bits}" for bits in range(2, 9)))


@dataclass(frozen=True)
class Network:
    """How a network is built, and for what images.

    Attributes:
        build: makes it from an image size and the layers' options.
        image_size: its usual one.
        classes: of its labels.
        has_fixed_size: whether it takes images of no other size.
    """

    build: Callable[..., nn.Module]
    image_size: int
    classes: int
    has_fixed_size: bool = False

    def chosen_size(self, image_size: int | None) -> int:
        """The size that is asked for, where there is a choice."""
        return self.image_size if self.has_fixed_size or image_size is None else image_size

    def float(self, image_size: int) -> nn.Module:
        """The network with ReLU instead of quantizers."""
        return self._seeded(image_size, act="relu")

    def stock(self, image_size: int, act: str) -> nn.Module:
        """The network with Brevitas' own quantizers."""
        network = self._seeded(image_size, act=act)
        restore_quantizers(network)
        return network

    def ours(self, image_size: int, act: str, rule: str, saved: str) -> nn.Module:
        """The stock network, converted."""
        network = self.stock(image_size, act)
        swap_quantizers(network, rule, saved=saved)
        return network

    def rivals(
        self, image_size: int, act: str, rules: Sequence[str], saved: Sequence[str]
    ) -> dict[str, Callable[[], nn.Module]]:
        """Name of each form → how it is built: without quantizers, stock, and ours."""
        built = {
            "ReLU": lambda: self.float(image_size),
            "stock": lambda: self.stock(image_size, act),
        }
        for rule, form in product(rules, saved):
            built[f"ours {rule} {form}"] = partial(self.ours, image_size, act, rule, form)
        return built

    def batch(self, image_size: int, count: int) -> tuple[Tensor, Tensor]:
        """Random images and labels."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(count, 3, image_size, image_size, generator=generator)
        return images, torch.randint(self.classes, (count,), generator=generator)

    def _seeded(self, image_size: int, **options: str) -> nn.Module:
        torch.manual_seed(0)
        return self.build(image_size, **options)


NETWORKS = {
    "convnet8": Network(lambda size, **options: ConvNet8(10, size, **options), 32, 10, True),
    "alexnet": Network(lambda size, **options: QuantAlexNet(1000, size, **options), 224, 1000),
    "resnet18": Network(lambda size, **options: QuantResNet18(1000, **options), 224, 1000),
}
