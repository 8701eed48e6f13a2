"""Sets of small images: what there is, decoded only where it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torchvision.datasets import CIFAR10, ImageFolder

from brevitas_ftprop.runs.image_files import decode, fitted, is_image_file, left_out

from ..failures import TrainingError
from ..sections import Data


@dataclass(frozen=True)
class Part:
    """The training or the test images of a set.

    Attributes:
        labels: int64 of shape (n,).
        decode: gives the images at some indices, uint8 of shape (m, C, H, W).
    """

    labels: np.ndarray
    decode: Callable[[np.ndarray], Tensor]


@dataclass(frozen=True)
class SmallSet:
    """A set of small images and how many classes it has.

    Attributes:
        shape: (C, H, W) of the first image as it was found.
        left_out: which files are no images, in a line; empty if all are.
    """

    classes: int
    train: Part
    test: Part
    shape: tuple[int, ...]
    left_out: str = ""


def cifar10(data: Data) -> SmallSet:
    """Torchvision's CIFAR-10, as its authors distribute it."""
    root = _root(data, "the folder that holds cifar-10-batches-py")
    if not data.download and not (root / CIFAR10.base_folder).is_dir():
        raise TrainingError(
            f"there is no {CIFAR10.base_folder} in {root}: pass --data.download true to fetch it, "
            "or --data.name image_folder for images in train/<class>/ and test/<class>/"
        )

    def part(train: bool) -> Part:
        images = CIFAR10(root, train=train, download=data.download)
        pixels = torch.from_numpy(images.data).permute(0, 3, 1, 2)
        return Part(np.array(images.targets), lambda indices: _sized(pixels[indices], data))

    return SmallSet(10, part(True), part(False), (3, 32, 32))


def image_folder(data: Data) -> SmallSet:
    """Image files in ``train/<class>/`` and ``test/<class>/`` (or ``val/<class>/``)."""
    root = _root(data, "a folder with train/<class>/ and test/<class>/")
    train = read_folder(root, "train")
    test = read_folder(root, "test", "val")
    if train.classes != test.classes:
        raise TrainingError(
            f"train and test images in {root} have other classes: {len(train.classes)} and "
            f"{len(test.classes)}, or other names"
        )

    def part(folder: ImageFolder) -> Part:
        def decode(indices: np.ndarray) -> Tensor:
            paths = [folder.samples[index][0] for index in indices]
            return torch.stack([sized(_decoded(path), data, path) for path in paths])

        return Part(np.array(folder.targets), decode)

    first = tuple(_decoded(train.samples[0][0]).shape)
    others = left_out(Path(train.root), Path(test.root))
    return SmallSet(len(train.classes), part(train), part(test), first, others)


def digits(data: Data) -> SmallSet:
    """Scikit-learn's 1797 digits of 8×8 pixels; the last 360 are the test images."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels * (255 / 16)).to(torch.uint8).reshape(-1, 1, 8, 8)

    def part(which: slice) -> Part:
        return Part(
            labels[which].astype(np.int64), lambda indices: _sized(images[which][indices], data)
        )

    return SmallSet(10, part(slice(-360)), part(slice(-360, None)), (1, 8, 8))


def random(data: Data) -> SmallSet:
    """Noise with random labels, for measurements of speed."""
    size = (data.channels, *data.size)

    def part(count: int, seed: int) -> Part:
        generator = np.random.default_rng(seed)
        pixels = torch.from_numpy(generator.integers(0, 256, (count, *size), dtype=np.uint8))
        labels = generator.integers(0, data.classes or 10, count)
        return Part(labels, lambda indices: pixels[indices])

    train = (data.train_images or 1024) + data.validation_images
    return SmallSet(data.classes or 10, part(train, 0), part(data.test_images or 256, 1), size)


SMALL: dict[str, Callable[[Data], SmallSet]] = {
    reader.__name__: reader for reader in (cifar10, digits, image_folder, random)
}


def read_folder(root: Path, *names: str) -> ImageFolder:
    """The ImageFolder in the first of some folders that exists.

    Raises:
        TrainingError: says what was expected where.
    """
    for name in names:
        if (root / name).is_dir():
            try:
                return ImageFolder(root / name, is_valid_file=is_image_file)
            except FileNotFoundError as error:
                raise TrainingError(
                    f"expected a folder of images for each class in {root / name}: {error}"
                ) from error
    raise TrainingError(f"there is no folder {' or '.join(names)} in {root}")


def _root(data: Data, expected: str) -> Path:
    if data.root is None:
        raise TrainingError(f"data {data.name!r} needs --data.root: {expected}")
    root = Path(data.root)
    if not root.is_dir():
        raise TrainingError(f"there is no folder {root}: data {data.name!r} expects {expected}")
    return root


def _decoded(path: str) -> Tensor:
    try:
        return decode(path)
    except ValueError as error:
        raise TrainingError(str(error)) from error


def sized(image: Tensor, data: Data, name: str | None = None) -> Tensor:
    """An image, uint8 of shape (C, H, W), as the network sees it.

    Raises:
        TrainingError: if it has another size and is not to be resized.
    """
    height, width = image.shape[-2:]
    if not data.resized and (height, width) != data.size:
        fitting = height if height == width else f"{height},{width}"
        raise TrainingError(
            f"{name or f'an image of data {data.name}'} is {width}×{height}, but the network sees "
            f"{data.size[1]}×{data.size[0]}: pass --data.image_size {fitting}, or --data.resized "
            "true"
        )
    return _sized(image, data)


def _sized(images: Tensor, data: Data) -> Tensor:
    return fitted(images, data.channels, data.size)
