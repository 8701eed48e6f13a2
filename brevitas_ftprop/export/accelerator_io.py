"""What enters and leaves an accelerator."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AcceleratorIO", "check_accelerator_io"]

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


def check_accelerator_io(images: str, result: str) -> None:
    """Raise for images or results that there are none of.

    Raises:
        ValueError: names the valid ones.
    """
    for value, valid, what in ((images, IMAGES, "images"), (result, RESULTS, "result")):
        if value not in valid:
            raise ValueError(f"{what} must be one of {', '.join(valid)}, not {value!r}")
