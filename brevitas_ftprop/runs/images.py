"""What a model is run on: random images, or those of a file."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

# 1 GiB of float32.
MOST_VALUES = 2**28


def random_images(shape: Sequence[int], *, count: int) -> Tensor:
    """Standard normal images, the same in every run, at least ``count`` in batches of the shape.

    Raises:
        ValueError: for more than a GiB of them.
    """
    whole = -(-count // shape[0]) * shape[0]
    check_size((whole, *shape[1:]))
    return torch.randn(whole, *shape[1:], generator=torch.Generator().manual_seed(0))


def check_size(shape: Sequence[int]) -> None:
    """Raise before memory is taken for random images that nobody can have meant.

    Raises:
        ValueError: for more than a GiB of float32.
    """
    if math.prod(shape) > MOST_VALUES:
        raise ValueError(
            f"random images of shape {tuple(shape)} would take {math.prod(shape) / 2**28:.0f} GiB: "
            "ask for fewer, or for a smaller batch size"
        )


def example_for(model: Module, shape: Sequence[int]) -> Tensor:
    """A random input that the model can take.

    Raises:
        ValueError: if it cannot, or the shape is too large.
    """
    return checked_example(model, random_images(shape, count=shape[0]))


def checked_example(model: Module, example: Tensor) -> Tensor:
    """The input, if the model can take it.

    Raises:
        ValueError: if it cannot.
    """
    try:
        with torch.no_grad():
            model(example)
    # Whatever a user's forward raises.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"the model cannot take an input of shape {tuple(example.shape)}: {reason}"
        ) from error
    return example


def read_batch(path: Path) -> Tensor:
    """The array of a ``.npy`` file, float64 rounded to float32.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is no ``.npy`` file, is shorter than it says, holds Python objects, no
            real numbers or no images, or more of them than this machine has memory for.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no batch {path}")
    try:
        # Mapped, so that a header that promises more than there is takes no memory.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OverflowError) as error:
        raise ValueError(f"{path} is no array of numbers that numpy.save wrote") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise ValueError(f"{path} is no array of real numbers that numpy.save wrote")
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{path} has shape {array.shape}, which is no batch of images")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if array.nbytes > memory:
        raise ValueError(
            f"{path} holds {array.nbytes / 2**30:.0f} GiB, and this machine has "
            f"{memory / 2**30:.0f} GiB of memory: write fewer images to it"
        )
    # torch has neither numpy's long double nor its other byte orders.
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float32))
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
