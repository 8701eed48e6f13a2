"""What an accelerator is asked to take, and the images that it is compared on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..accelerator_io import AcceleratorIO, check_accelerator_io
from ..checks import check_batch

__all__ = ["checked_io", "described", "images_to_compare"]

RANDOM_IMAGES = 4


def checked_io(
    images: str,
    result: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    example: Tensor,
) -> AcceleratorIO:
    """What the options ask for, if they fit each other and the example.

    Raises:
        ValueError: if they do not.
    """
    check_accelerator_io(images, result)
    if images == "float":
        if mean is not None or std is not None:
            raise ValueError(
                'mean and std are of uint8 images: pass images="uint8", or leave them out and '
                "normalize the images before they enter"
            )
        return AcceleratorIO(images, result, (), ())
    if mean is None or std is None:
        raise ValueError(
            'images="uint8" needs the mean and std of the normalization (x/255 - mean)/std that '
            "the model was trained with"
        )
    means, stds = _numbers(mean, "mean"), _numbers(std, "std")
    channels = example.shape[1] if example.dim() == 4 else 0
    if not len(means) == len(stds) == channels or not all(value > 0 for value in stds):
        raise ValueError(
            f"mean and std (positive) need a number for each of {channels} channels of "
            f"(N, C, H, W) images, not {len(means)} and {len(stds)}"
        )
    return AcceleratorIO(images, result, means, stds)


def images_to_compare(
    example: Tensor, batch: Tensor | None, io: AcceleratorIO
) -> tuple[Tensor, np.ndarray]:
    """What the model sees, and what the accelerator is given.

    Raises:
        TypeError, ValueError: for an example or a batch that does not fit.
    """
    if example.shape[0] != 1:
        raise ValueError(
            f"a dataflow accelerator takes one image at a time: example_input has "
            f"{example.shape[0]}, give it one"
        )
    generator = torch.Generator().manual_seed(0)
    if io.images == "float":
        if batch is None:
            random = torch.randn(RANDOM_IMAGES, *example.shape[1:], generator=generator)
            batch = torch.cat([example, torch.zeros_like(example), random])
        check_batch(batch, name="batch")
        _check_shape(batch, example)
        batch = batch.detach()
        return batch, batch.numpy()
    from .passes.image_input import normalized

    if batch is None:
        shape = (RANDOM_IMAGES, *example.shape[1:])
        batch = torch.randint(0, 256, shape, generator=generator)
        batch = torch.cat([torch.zeros_like(batch[:1]), torch.full_like(batch[:1], 255), batch])
    if not isinstance(batch, Tensor) or batch.is_complex() or not _are_pixels(batch):
        raise ValueError('images="uint8" needs a batch of integers from 0 to 255')
    _check_shape(batch, example)
    pixels = batch.detach().numpy().astype(np.float32)
    return torch.from_numpy(normalized(pixels, io.mean, io.std)), pixels


def described(io: AcceleratorIO, example: Tensor) -> dict[str, str]:
    """What enters and leaves, in words for the report."""
    entry = f"float32 {tuple(example.shape)}"
    if io.images == "uint8":
        channels, height, width = example.shape[1:]
        entry = f"uint8 pixels (1, {height}, {width}, {channels})"
    return {"input": entry, "output": "class index" if io.result == "class" else io.result}


def _numbers(values: Sequence[float], name: str) -> tuple[float, ...]:
    try:
        numbers = tuple(map(float, values))
    except (TypeError, ValueError):
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} must be finite numbers, one a channel, not {values!r}")
    return numbers


def _are_pixels(batch: Tensor) -> bool:
    return not bool(((batch < 0) | (batch > 255) | (batch % 1 != 0)).any())


def _check_shape(batch: Tensor, example: Tensor) -> None:
    if batch.shape[1:] != example.shape[1:] or batch.numel() == 0:
        raise ValueError(
            f"the batch has shape {tuple(batch.shape)}, but needs one image or more of shape "
            f"{tuple(example.shape[1:])}"
        )
