"""A user's own data: ``package.module:factory`` gives training and test images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from brevitas_ftprop.runs.factory import called, find_factory

from ..failures import TrainingError
from ..sections import Data
from .small_sets import Part, SmallSet, sized

# How far a float may be from the byte that it stands for, in 1/255.
ROUNDING = 1e-3


def own_set(data: Data) -> SmallSet:
    """What the factory gives, read once and kept as bytes.

    It returns two datasets, for training and for tests, of (image, label): an image is a PIL image,
    bytes of shape (C, H, W) as tensor or (H, W, C) as array, or floats that are k/255; a label a
    number from 0. It is called with ``data.options`` and, where that is given, ``root``.

    Raises:
        TrainingError: for anything else; says what.
    """
    options = dict(data.options) | ({} if data.root is None else {"root": data.root})
    try:
        factory = find_factory(data.name)
        pair = called(factory, options, reference=data.name, options_by="--data.options")
    except (ImportError, TypeError, ValueError) as error:
        raise TrainingError(f"data {error}") from error
    if not (isinstance(pair, Sequence) and len(pair) == 2 and all(map(_is_dataset, pair))):
        raise TrainingError(
            f"data {data.name} gives a {type(pair).__name__}: return two datasets of (image, "
            "label), one for training and one for tests, which have a length"
        )
    (images, labels), (test_images, test_labels) = (
        _read(dataset, f"data {data.name}, {which}")
        for dataset, which in zip(pair, ("training image", "test image"), strict=True)
    )
    classes = int(labels.max()) + 1
    if test_labels.max() >= classes:
        raise TrainingError(
            f"data {data.name}: a test image has the label {test_labels.max()}, but the training "
            f"images have {classes} classes"
        )
    train, test = _part(images, labels, data), _part(test_images, test_labels, data)
    return SmallSet(classes, train, test, tuple(images[0].shape))


def _part(images: list[Tensor], labels: np.ndarray, data: Data) -> Part:
    def decode(indices: np.ndarray) -> Tensor:
        return torch.stack([sized(images[index], data) for index in indices])

    return Part(labels, decode)


def _is_dataset(value: Any) -> bool:
    return hasattr(value, "__getitem__") and hasattr(value, "__len__") and len(value) > 0


def _read(dataset: Any, what: str) -> tuple[list[Tensor], np.ndarray]:
    images, labels = [], []
    for index in range(len(dataset)):
        try:
            image, label = dataset[index]
            labels.append(int(label))
            images.append(_as_bytes(image))
        except TrainingError as error:
            raise TrainingError(f"{what} {index} {error}") from error
        # Whatever a user's dataset raises.
        except Exception as error:
            raise TrainingError(
                f"{what} {index} is no (image, label): {type(error).__name__}: {error}"
            ) from error
        if labels[-1] < 0:
            raise TrainingError(f"{what} {index} has the label {labels[-1]}: labels start at 0")
    return images, np.array(labels, dtype=np.int64)


def _as_bytes(image: Any) -> Tensor:
    """uint8 of shape (C, H, W) with one or three channels."""
    if isinstance(image, Image):
        image = functional.pil_to_tensor(image if image.mode == "L" else image.convert("RGB"))
    elif isinstance(image, np.ndarray):
        image = torch.from_numpy(np.ascontiguousarray(image))
        image = image.permute(2, 0, 1) if image.dim() == 3 else image
    if not isinstance(image, Tensor):
        raise TrainingError(f"is a {type(image).__name__}, no PIL image, tensor or array")
    image = image[None] if image.dim() == 2 else image
    if image.dim() != 3 or image.shape[0] not in (1, 3):
        raise TrainingError(f"has shape {tuple(image.shape)}, not one or three channels first")
    if image.is_floating_point():
        whole = (image * 255).round()
        if not bool(((image * 255 - whole).abs() < ROUNDING).all() and (whole.abs() <= 255).all()):
            raise TrainingError(
                f"has {image.dtype} values that are no k/255: leave normalizing to data.mean and "
                "data.std, augmenting to data.flip and data.crop_padding"
            )
        image = whole.to(torch.int16)
    if image.dtype != torch.uint8 and (image.min() < 0 or image.max() > 255):
        raise TrainingError(f"has {image.dtype} values outside 0 to 255")
    return image.to(torch.uint8)
