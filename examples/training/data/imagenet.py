"""ImageNet, or any large images in class folders."""

from __future__ import annotations

from pathlib import Path

from torchvision.datasets import ImageFolder, ImageNet
from torchvision.transforms import v2

from ..failures import TrainingError
from ..sections import Data
from .small_sets import read_folder

# Which torchvision's ImageNet needs beside the archives of images.
DEVKIT = ("ILSVRC2012_devkit_t12.tar.gz", "meta.bin")


def imagenet_folder(data: Data, part: str) -> ImageFolder:
    """The images of ``train`` or ``val``.

    Raises:
        TrainingError: says what was expected where.
    """
    expected = "train/<class>/ and val/<class>/, or the archives that torchvision's ImageNet takes"
    if data.root is None or not Path(data.root).is_dir():
        raise TrainingError(f"data 'imagenet' needs --data.root, a folder with {expected}")
    root = Path(data.root)
    if any((root / name).is_file() for name in DEVKIT):
        return ImageNet(root, part)
    return read_folder(root, part, *(["test"] if part == "val" else []))


def training_transform(data: Data) -> v2.Transform:
    """Random crop and flip."""
    if data.resized_crop:
        crop = [v2.RandomResizedCrop(data.size, antialias=True)]
    else:
        crop = [v2.Resize(data.resize, antialias=True), v2.RandomCrop(data.size)]
    return v2.Compose([*crop, *([v2.RandomHorizontalFlip()] if data.flip else [])])


def evaluation_transform(data: Data) -> v2.Transform:
    """Central crop."""
    return v2.Compose([v2.Resize(data.resize, antialias=True), v2.CenterCrop(data.size)])
