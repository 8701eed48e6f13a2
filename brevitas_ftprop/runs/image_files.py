"""Image files as bytes of one shape, and their classes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from torchvision.io import ImageReadMode

# What torchvision's decoder does not read, and Pillow does.
BY_PILLOW = (".bmp", ".pgm", ".ppm", ".tif", ".tiff")
SUFFIXES = (*BY_PILLOW, ".gif", ".jpeg", ".jpg", ".png", ".webp")
# How many kinds of other files are named.
NAMED_KINDS = 4


@dataclass(frozen=True)
class Fit:
    """What images have to be like.

    Attributes:
        channels: 3, or 1 for grey images; others are converted.
        size: height and width.
        resized: whether images of another size are resized to it.
        short_side: what images are resized to before ``size`` is cut out of their middle; None for
            images that are not cropped.
    """

    channels: int
    size: tuple[int, int]
    resized: bool = False
    short_side: int | None = None


def is_image_file(file: str | Path) -> bool:
    """Whether a file is one of those that are read as images, by the end of its name.

    >>> is_image_file("cat.PNG"), is_image_file("notes.txt")
    (True, False)
    """
    return Path(file).suffix.lower() in SUFFIXES


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder and its subfolders, in the order of their names.

    Subfolders that are links are gone into, as torchvision's ImageFolder does.

    Raises:
        FileNotFoundError: if there are none.
    """
    files = sorted(filter(is_image_file, _files(folder)))
    if not files:
        raise FileNotFoundError(f"{folder} holds no image files: {', '.join(SUFFIXES)}")
    return files


def left_out(*folders: Path) -> str:
    """What lies among the image files of folders without being one, in a line; empty if nothing."""
    others = [file for folder in folders for file in _files(folder) if not is_image_file(file)]
    if not others:
        return ""
    kinds = sorted({file.suffix or file.name for file in others})
    more = f" and {len(kinds) - NAMED_KINDS} more" if len(kinds) > NAMED_KINDS else ""
    one = len(others) == 1
    count = "1 file that is no image" if one else f"{len(others)} files that are no images"
    return f"left out: {count}: {', '.join(kinds[:NAMED_KINDS])}{more}"


def shape_of(file: Path) -> tuple[int, ...]:
    """(C, H, W) of an image file, with one channel if it is grey and else three.

    Raises:
        ValueError: if it cannot be decoded.
    """
    from torchvision.io import ImageReadMode

    channels, *size = _decoded(file, ImageReadMode.UNCHANGED).shape
    return (1 if channels < 3 else 3, *size)


def read_images(files: Sequence[Path], fit: Fit) -> Tensor:
    """Images as bytes, uint8 of shape (N, C, H, W).

    Raises:
        ValueError: for a file that cannot be decoded, or has another size and is not resized.
    """
    return torch.stack([_fitting(decode(file), fit, file) for file in files])


def decode(file: str | Path) -> Tensor:
    """An image as RGB bytes, uint8 of shape (3, H, W); of 16 bits a channel, the upper eight.

    Raises:
        ValueError: if it cannot be decoded.
    """
    from torchvision.io import ImageReadMode

    return _decoded(file, ImageReadMode.RGB)


def fitted(images: Tensor, channels: int, size: Sequence[int]) -> Tensor:
    """Bytes of shape (..., C, H, W) resized, and grey ones with equal channels or the reverse."""
    from torchvision.transforms.v2 import functional

    if list(images.shape[-2:]) != list(size):
        images = functional.resize(images, list(size), antialias=True)
    if images.shape[-3] == 1 and channels == 3:
        return images.expand(*images.shape[:-3], 3, *size)
    if images.shape[-3] != channels:
        return functional.rgb_to_grayscale(images)
    return images


def read_labels(source: Path, files: Sequence[Path], count: int) -> Tensor:
    """The classes of a batch, int64 of shape (N,).

    Args:
        source: a file of ``numpy.save``, or the folder whose subfolders are the classes, as
            torchvision's ImageFolder counts them.
        files: the batch's image files.
        count: images of the batch.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if it holds other labels than one class for each image.
    """
    if source.is_dir():
        return torch.tensor(_classes(source, files), dtype=torch.int64)
    if not source.is_file():
        raise FileNotFoundError(f"there are no labels {source}")
    try:
        labels = np.load(source, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{source} is no array of numbers that numpy.save wrote") from error
    if labels.dtype.kind not in "iu" or labels.shape != (count,) or labels.min() < 0:
        raise ValueError(
            f"{source} holds {labels.dtype} of shape {labels.shape}, not a class, from 0, for each "
            f"of {count} images"
        )
    return torch.from_numpy(labels.astype(np.int64))


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder, followlinks=True):
        yield from (Path(place, name) for name in names)


def _classes(folder: Path, files: Sequence[Path]) -> list[int]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    within = [_parts_below(folder, file) for file in files]
    if not within or any(len(parts) < 2 for parts in within):
        raise ValueError(
            f"the images of --batch do not lie in a subfolder of {folder} for each class"
        )
    return [names.index(parts[0]) for parts in within]


def _parts_below(folder: Path, file: Path) -> tuple[str, ...]:
    """The path from a folder to a file, whichever way both are named; none if it is elsewhere."""
    # A class may be a link to elsewhere, and so may the folder that the file was found in.
    for path in (file.absolute(), file.resolve()):
        for depth, parent in enumerate(path.parents, 1):
            if parent.samefile(folder):
                return path.parts[-depth:]
    return ()


def _decoded(file: str | Path, mode: ImageReadMode) -> Tensor:
    from torchvision.io import decode_image

    try:
        if Path(file).suffix.lower() in BY_PILLOW:
            image = _by_pillow(file, mode)
        else:
            image = decode_image(str(file), mode)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{file} cannot be decoded: {error}") from error
    if image.dim() != 3:
        raise ValueError(f"{file} is an animation of {len(image)} images: give one of them")
    # PNGs have up to 16 bits a channel.
    return (image.int() >> 8).to(torch.uint8) if image.dtype == torch.uint16 else image


def _by_pillow(file: str | Path, mode: ImageReadMode) -> Tensor:
    from PIL import Image
    from torchvision.io import ImageReadMode
    from torchvision.transforms.v2 import functional

    with Image.open(file) as image:
        # 16 or 32 bits a pixel, which Pillow would clip to 255.
        if image.mode[0] in "FI":
            raise OSError(f"its pixels are no bytes (mode {image.mode}), write it as PNG")
        is_grey = image.mode in ("1", "L", "LA") and mode != ImageReadMode.RGB
        return functional.pil_to_tensor(image.convert("L" if is_grey else "RGB"))


def _fitting(image: Tensor, fit: Fit, file: Path) -> Tensor:
    from torchvision.transforms.v2 import functional

    if fit.short_side is not None:
        image = functional.resize(image, [fit.short_side], antialias=True)
        image = functional.center_crop(image, list(fit.size))
    height, width = image.shape[-2:]
    if not fit.resized and (height, width) != fit.size:
        raise ValueError(
            f"{file} is {width}×{height}, but the model sees {fit.size[1]}×{fit.size[0]}: pass "
            "--resize to resize it"
        )
    return fitted(image, fit.channels, fit.size)
