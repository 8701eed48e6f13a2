"""The images that an accelerator is compared on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..accelerator_io import AcceleratorIO
from ..checks import check_batch
from .passes.image_input import normalized

RANDOM_IMAGES = 4


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
    if batch is None:
        shape = (RANDOM_IMAGES, *example.shape[1:])
        batch = torch.randint(0, 256, shape, generator=generator)
        batch = torch.cat([torch.zeros_like(batch[:1]), torch.full_like(batch[:1], 255), batch])
    if not isinstance(batch, Tensor) or batch.is_complex() or not _are_pixels(batch):
        raise ValueError('images="uint8" needs a batch of integers from 0 to 255')
    _check_shape(batch, example)
    pixels = batch.detach().numpy().astype(np.float32)
    return torch.from_numpy(normalized(pixels, io.mean, io.std)), pixels


def _are_pixels(batch: Tensor) -> bool:
    return not bool(((batch < 0) | (batch > 255) | (batch % 1 != 0)).any())


def _check_shape(batch: Tensor, example: Tensor) -> None:
    if batch.shape[1:] != example.shape[1:] or batch.numel() == 0:
        raise ValueError(
            f"the batch has shape {tuple(batch.shape)}, but needs one image or more of shape "
            f"{tuple(example.shape[1:])}"
        )
