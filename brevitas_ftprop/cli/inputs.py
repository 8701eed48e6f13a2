"""What a model is run on: random images, or those of a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

__all__ = ["example_for", "parse_numbers", "parse_shape", "random_images", "read_batch"]


def parse_shape(text: str) -> tuple[int, ...]:
    """A shape from its commas.

    >>> parse_shape("1,3,32,32")
    (1, 3, 32, 32)
    """
    parts = [part.strip() for part in text.strip("() ").split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts) or len(parts) < 2:
        raise ValueError(
            f"write the input's shape as positive numbers, 1,3,32,32 with the batch size first, "
            f"not {text!r}"
        )
    return tuple(map(int, parts))


def parse_numbers(text: str) -> tuple[float, ...]:
    """Numbers from their commas.

    >>> parse_numbers("0.5,0.25")
    (0.5, 0.25)
    """
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError(f"write finite numbers with commas between them, not {text!r}")
    return numbers


def random_images(shape: Sequence[int], *, count: int) -> Tensor:
    """Standard normal images, the same in every run, at least ``count`` in batches of the shape."""
    whole = math.ceil(count / shape[0]) * shape[0]
    return torch.randn(whole, *shape[1:], generator=torch.Generator().manual_seed(0))


def example_for(model: Module, shape: Sequence[int]) -> Tensor:
    """A random input that the model can take.

    Raises:
        ValueError: if it cannot.
    """
    example = random_images(shape, count=shape[0])
    try:
        with torch.no_grad():
            model(example)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"the model cannot take an input of shape {tuple(shape)}: {reason}"
        ) from error
    return example


def read_batch(path: Path) -> Tensor:
    """The array of a ``.npy`` file, float64 rounded to float32.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is no ``.npy`` file, or holds Python objects or no real numbers.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no batch {path}")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no array of numbers that numpy.save wrote") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise ValueError(f"{path} is no array of real numbers that numpy.save wrote")
    # torch has neither numpy's long double nor its other byte orders.
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float32))
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
