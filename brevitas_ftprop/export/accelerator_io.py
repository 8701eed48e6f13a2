"""What enters and leaves an accelerator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FLOAT, PIXELS = "float", "uint8"
# Integers that enter as the model takes them, with the least and the largest one.
INTEGERS = {
    "bipolar": (-1, 1),
    "binary": (0, 1),
    "ternary": (-1, 1),
    **{f"int{bits}": (-(1 << bits - 1), (1 << bits - 1) - 1) for bits in range(2, 9)},
    **{f"uint{bits}": (0, (1 << bits) - 1) for bits in range(2, 8)},
}
IMAGES = (FLOAT, PIXELS, *INTEGERS)
RESULTS = ("logits", "integers", "class")
# What a model may see of a pixel x: what x is divided by, what is subtracted then, and the least
# and the largest that this gives.
FORMULAS = {
    "x/255": (255.0, 0.0, 0, 1),
    "x": (1.0, 0.0, 0, 255),
    "x/127.5-1": (127.5, 1.0, -1, 1),
}


@dataclass(frozen=True)
class AcceleratorIO:
    """What enters and leaves the accelerator.

    Attributes:
        images: ``"uint8"`` pixels, channels last, the ``"float"`` images that the model takes, or
            the lower-case name of a FINN datatype, whose integers the model takes as they are.
        result: the ``"logits"``, the ``"integers"`` that they are multiples of, or the ``"class"``
            index.
        pixels: what the model sees of a pixel, one of ``FORMULAS``; ``"x"`` for other integers.
        mean, std: of the normalization of that, one number a channel; empty where there is none.
        thresholds: of the first quantizer on the integers that enter, once they are known.
    """

    images: str = FLOAT
    result: str = "logits"
    pixels: str = "x"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    thresholds: np.ndarray | None = None

    @property
    def takes_integers(self) -> bool:
        """Whether integers enter."""
        return self.images != FLOAT

    @property
    def ends(self) -> tuple[int, int]:
        """The least and the largest integer that enters."""
        return INTEGERS.get(self.images, (0, 255))

    @property
    def values(self) -> Tensor:
        """All integers that may enter, ascending."""
        least, largest = self.ends
        return torch.arange(least, largest + 1, 2 if self.images == "bipolar" else 1)

    @property
    def datatype(self) -> str:
        """FINN's name of the integers; ±1 have two bits, since a layer may pad them with 0."""
        return "INT2" if self.images == "bipolar" else self.images.upper()

    @property
    def factor(self) -> float | None:
        """What the model sees an integer multiplied with; None if it sees another function."""
        divisor, shift, *_ = FORMULAS[self.pixels]
        return None if shift or self.mean else 1 / divisor

    def seen(self, integers: Tensor) -> Tensor:
        """What the model sees of integers (N, C, …), in float32.

        >>> io = AcceleratorIO("uint8", pixels="x/255", mean=(0.5,), std=(0.25,))
        >>> io.seen(torch.tensor([[0, 255]]))
        tensor([[-2.,  2.]])
        """
        divisor, shift, *_ = FORMULAS[self.pixels]
        seen = integers.to(torch.float32) / divisor - shift
        if not self.mean:
            return seen
        shape = (1, -1, *(1,) * (integers.dim() - 2))
        mean, std = (torch.tensor(each).reshape(shape) for each in (self.mean, self.std))
        return (seen - mean) / std

    def described(self, shape: Sequence[int]) -> dict[str, str]:
        """Input and output in words, for an input of a shape as the accelerator takes it."""
        kinds = {FLOAT: "float32", PIXELS: "uint8 pixels"}
        kind = kinds.get(self.images, f"{self.images} integers")
        result = "class index" if self.result == "class" else self.result
        return {"input": f"{kind} {tuple(shape)}", "output": result}


def checked_io(
    images: str,
    result: str,
    pixels: str | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    example: Tensor,
    *,
    is_guessed: bool = False,
) -> AcceleratorIO:
    """What the options ask for, if they fit each other and the example.

    Args:
        images, result, pixels, mean, std: as ``export_finn`` takes them.
        example: an input of the model.
        is_guessed: whether pixels that nothing is told about are seen as x/255.

    Raises:
        ValueError: if they do not; names the valid ones.
    """
    name = images.lower() if isinstance(images, str) else images
    if name not in IMAGES:
        raise ValueError(
            f"images must be one of {FLOAT}, {PIXELS}, or a datatype of FINN, "
            f"{', '.join(kind.upper() for kind in INTEGERS)}, not {images!r}"
        )
    if result not in RESULTS:
        raise ValueError(f"result must be one of {', '.join(RESULTS)}, not {result!r}")
    if name != PIXELS:
        if not pixels is mean is std is None:
            raise ValueError(
                'pixels, mean and std are of uint8 images: pass images="uint8", or leave them out'
                + (" and normalize the images before they enter" if name == FLOAT else "")
            )
        return AcceleratorIO(name, result)
    if pixels is None and mean is None and std is None and not is_guessed:
        raise ValueError(
            'images="uint8" needs the mean and std of the normalization (x/255 - mean)/std that '
            f"the model was trained with, or pixels, one of {', '.join(FORMULAS)}, if it sees that "
            "of a pixel x"
        )
    formula = "x/255" if pixels is None else str(pixels).replace(" ", "")
    if formula not in FORMULAS:
        raise ValueError(f"pixels must be one of {', '.join(FORMULAS)}, not {pixels!r}")
    if mean is None and std is None:
        return AcceleratorIO(name, result, formula)
    if mean is None or std is None:
        raise ValueError(f"mean and std are told together, as in ({formula} - mean)/std")
    numbers = _normalization(formula, mean, std, example)
    return AcceleratorIO(name, result, formula, *numbers)


def _normalization(
    formula: str, mean: Sequence[float], std: Sequence[float], example: Tensor
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    means, stds = _numbers(mean, "mean"), _numbers(std, "std")
    channels = example.shape[1] if example.dim() > 1 else 0
    if not len(means) == len(stds) == channels:
        raise ValueError(
            f"mean and std need a number for each of {channels} channels of (N, C, H, W) images, "
            f"not {len(means)} and {len(stds)}"
        )
    if not all(value > 0 for value in stds):
        raise ValueError(f"std must be positive in each channel, not {stds}")
    low, high = FORMULAS[formula][2:]
    for number in means:
        if not low <= number <= high:
            raise ValueError(
                f"a mean of {number:g} is that of values outside {low}…{high}, where {formula} "
                f"lies{_instead(number)}"
            )
    return means, stds


def _instead(mean: float) -> str:
    """The formula whose values may have a mean."""
    for formula, (_, _, low, high) in FORMULAS.items():
        if low <= mean <= high:
            return f': pass pixels="{formula}" if the model was trained on ({formula} - mean)/std'
    return ""


def _numbers(values: Sequence[float], name: str) -> tuple[float, ...]:
    try:
        numbers = tuple(map(float, values))
    except (TypeError, ValueError):
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} must be finite numbers, one a channel, not {values!r}")
    return numbers
