"""All definitions by name, each with the form in which its images enter an accelerator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn import functional

from brevitas_ftprop import quantize_for_finn

from . import anew, of_brevitas, of_torchvision

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PIXELS = {"images": "uint8", "pixels": "x/255", "result": "class"}


@dataclass(frozen=True)
class Definition:
    """A network of others.

    Attributes:
        origin: whose definition it is.
        name: theirs.
        make: the network, in training mode.
        shape: of one image, (C, H, W), or of one row of features.
        io: what enters and leaves the accelerator, as ``export_finn`` is told.
        is_full: whether it is as wide as published, and large.
    """

    origin: str
    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    io: dict[str, Any] = field(default_factory=lambda: dict(PIXELS))
    is_full: bool = False

    @property
    def key(self) -> str:
        """For a file."""
        return f"{self.origin} {self.name}{' full' * self.is_full}".replace(", ", "-").replace(
            " ", "-"
        )

    def entering(self, count: int) -> Tensor:
        """What enters the accelerator: pieces of scikit-learn's two photographs, or integers."""
        generator = torch.Generator().manual_seed(0)
        if self.io["images"] == "uint8":
            photos = [
                torch.from_numpy(each.copy()).movedim(-1, 0) for each in load_sample_images().images
            ]
            channels, *size = self.shape
            pieces = [_piece(photos[at % 2], tuple(size), generator) for at in range(count)]
            images = torch.stack(pieces)
            return images if channels == 3 else images.float().mean(1, keepdim=True).round()
        if self.io["images"] == "bipolar":
            return torch.randint(0, 2, (count, *self.shape), generator=generator) * 2.0 - 1
        return torch.randn(count, *self.shape, generator=generator)

    def seen(self, entering: Tensor) -> Tensor:
        """What the model sees of it."""
        seen = entering.float()
        if self.io["images"] == "uint8":
            seen = seen / 255
        if "mean" in self.io:
            shape = (1, -1, *(1,) * (seen.dim() - 2))
            mean, std = (torch.tensor(self.io[each]).view(shape) for each in ("mean", "std"))
            seen = (seen - mean) / std
        return seen


def _piece(photo: Tensor, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """A square of a photograph, at a place drawn, as large as is wanted."""
    edge = min(photo.shape[1:]) // 2
    top, left = (
        int(torch.randint(0, extent - edge, (), generator=generator)) for extent in photo.shape[1:]
    )
    piece = photo[None, :, top : top + edge, left : left + edge].float()
    return functional.interpolate(piece, size, mode="bilinear", antialias=True)[0].round()


def _by_brevitas(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> nn.Module:
    torch.manual_seed(0)
    model = settled(make(), torch.randn(4, *shape)).eval()
    return of_torchvision.quantized_by_brevitas(model)


def _for_finn(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> nn.Module:
    torch.manual_seed(0)
    images = torch.randn(4, *shape)
    model = settled(make(), images).eval()
    return quantize_for_finn(model, images[:1], calibrate=images, quantize_output=True)[0]


def settled(model: nn.Module, images: Tensor) -> nn.Module:
    """The model with batch norms that have seen images and differ from channel to channel."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.affine:
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.normal_(module.bias, 0, 0.3)
    with torch.no_grad():
        for _ in range(2):
            model.train()(images)
    return model


def _of_torchvision(*, full: bool) -> list[Definition]:
    sizes = {"alexnet": 224, "resnet18": 64, "vgg11_bn": 224, "mobilenet_v2": 64}
    found = []
    for origin, quantized in (
        ("torchvision, brevitas.graph.quantize", _by_brevitas),
        ("torchvision, quantize_for_finn", _for_finn),
    ):
        for name, size in sizes.items():
            shape = (3, 224, 224) if full else (3, size, size)
            make = partial(quantized, partial(getattr(of_torchvision, name), full=full), shape)
            found.append(Definition(origin, name, make, shape, PIXELS | IMAGENET, full))
    return found


def _of_brevitas() -> list[Definition]:
    images = {"tfc": (1, 28, 28), "sfc": (1, 28, 28), "lfc": (1, 28, 28), "cnv": (3, 32, 32)}
    found = [
        Definition("bnn_pynq", f"{name}_1w1a", partial(of_brevitas.bnn_pynq, f"{name}_1w1a"), shape)
        for name, shape in images.items()
    ]
    return [
        *found,
        Definition("bnn_pynq", "resnet18_4w4a", of_brevitas.resnet18_4w4a, (3, 32, 32)),
        Definition(
            "brevitas", "mobilenet_v1", partial(of_brevitas.mobilenet_v1, pool=2), (3, 64, 64)
        ),
    ]


def _anew() -> list[Definition]:
    bits = {"images": "bipolar", "result": "class"}
    return [
        Definition("MLPerf Tiny", "ResNet-8", anew.resnet8, (3, 32, 32)),
        Definition("written anew", "binary-input MLP", anew.binary_mlp, (64,), bits),
    ]


NARROW = [*_of_torchvision(full=False), *_of_brevitas(), *_anew()]
FULL = _of_torchvision(full=True)
