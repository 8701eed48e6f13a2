"""What enters and leaves an accelerator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

IMAGES = ("float", "uint8")
RESULTS = ("logits", "integers", "class")


@dataclass(frozen=True)
class AcceleratorIO:
    """What enters and leaves the accelerator.

    Attributes:
        images: ``"uint8"`` pixels, channels last, or the ``"float"`` images that the model takes.
        result: the ``"logits"``, the ``"integers"`` that they are multiples of, or the ``"class"``
            index.
        mean, std: of the normalization of uint8 images, one number a channel; empty for others.
    """

    images: str
    result: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def described(self, example: Tensor) -> dict[str, str]:
        """Input and output in words, for images like the example (N, C, H, W)."""
        entry = f"float32 {tuple(example.shape)}"
        if self.images == "uint8":
            channels, height, width = example.shape[1:]
            entry = f"uint8 pixels (1, {height}, {width}, {channels})"
        result = "class index" if self.result == "class" else self.result
        return {"input": entry, "output": result}


def check_accelerator_io(images: str, result: str) -> None:
    """Raise for images or results that there are none of.

    Raises:
        ValueError: names the valid ones.
    """
    for value, valid, what in ((images, IMAGES, "images"), (result, RESULTS, "result")):
        if value not in valid:
            raise ValueError(f"{what} must be one of {', '.join(valid)}, not {value!r}")


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


def _numbers(values: Sequence[float], name: str) -> tuple[float, ...]:
    try:
        numbers = tuple(map(float, values))
    except (TypeError, ValueError):
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} must be finite numbers, one a channel, not {values!r}")
    return numbers
