"""The images that an accelerator is compared on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..accelerator_io import AcceleratorIO
from ..checks import check_batch

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
    shape = (RANDOM_IMAGES, *example.shape[1:])
    if not io.takes_integers:
        if batch is None:
            random = torch.randn(shape, generator=generator)
            batch = torch.cat([example, torch.zeros_like(example), random])
        check_batch(batch, name="batch")
        _check_shape(batch, example)
        batch = batch.detach()
        return batch, batch.numpy()
    if batch is None:
        random = io.values[torch.randint(0, len(io.values), shape, generator=generator)]
        batch = torch.cat([torch.full_like(random[:1], end) for end in io.ends] + [random])
    if not isinstance(batch, Tensor) or batch.is_complex() or not _can_enter(batch, io):
        least, largest = io.ends
        signs, others = "numbers -1 and 1", f"integers from {least} to {largest}"
        needed = signs if io.images == "bipolar" else others
        raise ValueError(f'images="{io.images}" needs a batch of {needed}')
    _check_shape(batch, example)
    integers = batch.detach()
    return io.seen(integers), integers.numpy().astype(np.float32)


def _can_enter(batch: Tensor, io: AcceleratorIO) -> bool:
    return bool(torch.isin(batch, io.values).all())


def _check_shape(batch: Tensor, example: Tensor) -> None:
    if batch.shape[1:] != example.shape[1:] or batch.numel() == 0:
        raise ValueError(
            f"the batch has shape {tuple(batch.shape)}, but needs one image or more of shape "
            f"{tuple(example.shape[1:])}"
        )
