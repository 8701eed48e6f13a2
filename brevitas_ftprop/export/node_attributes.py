"""Attributes of ONNX nodes, notes in their metadata, and what a message lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper


def attribute_values(node: NodeProto) -> dict[str, Any]:
    """A node's attributes by name, strings decoded."""
    values = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    return {n: v.decode(errors="replace") if isinstance(v, bytes) else v for n, v in values.items()}


def integers_in(node: NodeProto, name: str, default: Sequence[int]) -> list[int]:
    """An attribute that is an integer or lists several, as a list."""
    for entry in node.attribute:
        if entry.name == name:
            return list(entry.ints) or [entry.i]
    return list(default)


def is_padded(node: NodeProto) -> bool:
    """Whether a convolution or pool pads its input."""
    return any(integers_in(node, "pads", [0]))


def padding_of(node: NodeProto, pads: np.ndarray | None) -> list[int] | None:
    """What a ``Pad`` adds to a map, (top, left, bottom, right); None for all other paddings.

    Args:
        node: of (N, C, H, W).
        pads: its second input, if that is constant.
    """
    mode = attribute_values(node).get("mode", "constant")
    has_axes = len(node.input) > 3 and bool(node.input[3])
    if pads is None or pads.size != 8 or mode != "constant" or has_axes or pads.min() < 0:
        return None
    before, after = pads.reshape(2, 4).tolist()
    return None if any(before[:2] + after[:2]) else [*before[2:], *after[2:]]


def note_of(node: NodeProto, key: str) -> str | None:
    """A node's note in its metadata."""
    return next((entry.value for entry in node.metadata_props if entry.key == key), None)


def keep(entries: Any, condition: Callable[[Any], bool]) -> None:
    """Leave only those entries of a message's field that meet a condition, in place."""
    kept = [entry for entry in entries if condition(entry)]
    if len(kept) < len(entries):
        del entries[:]
        entries.extend(kept)
