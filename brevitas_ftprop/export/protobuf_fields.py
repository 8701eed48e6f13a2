"""Edit the repeated fields of ONNX's messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["keep"]


def keep(entries: Any, condition: Callable[[Any], bool]) -> None:
    """Leave only the entries that meet a condition, in place.

    >>> import onnx
    >>> node = onnx.NodeProto(input=["x", "y"])
    >>> keep(node.input, lambda name: name != "x")
    >>> list(node.input)
    ['y']
    """
    kept = [entry for entry in entries if condition(entry)]
    if len(kept) < len(entries):
        del entries[:]
        entries.extend(kept)
