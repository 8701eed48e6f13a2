"""Padding as ONNX tells it, for torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .rounding import UnboundedError

__all__ = ["require_explicit_padding", "torch_pads"]


def torch_pads(pads: Sequence[int]) -> list[int]:
    """ONNX: all beginnings, then all ends; torch: pairs, the last dimension first.

    >>> torch_pads([1, 2, 3, 4])
    [2, 4, 1, 3]
    """
    half = len(pads) // 2
    return [pads[i + side * half] for i in reversed(range(half)) for side in (0, 1)]


def require_explicit_padding(attributes: dict[str, Any]) -> None:
    """Raise for padding that depends on the input's size.

    Raises:
        UnboundedError: says so.
    """
    if attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise UnboundedError("automatic padding")
