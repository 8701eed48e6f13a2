"""What enters and leaves an accelerator."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Edges"]


@dataclass(frozen=True)
class Edges:
    """What enters and leaves the accelerator.

    Attributes:
        images: ``"uint8"`` pixels, channels last, or the ``"float"`` images that the model takes.
        result: ``"class"`` index or ``"logits"``.
        mean, std: of the normalization of uint8 images, one number a channel; empty for others.
    """

    images: str
    result: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
