"""Attributes of ONNX nodes, notes in their metadata, and what a message lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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


def note_of(node: NodeProto, key: str) -> str | None:
    """A node's note in its metadata."""
    return next((entry.value for entry in node.metadata_props if entry.key == key), None)


def keep(entries: Any, condition: Callable[[Any], bool]) -> None:
    """Leave only those entries of a message's field that meet a condition, in place."""
    kept = [entry for entry in entries if condition(entry)]
    if len(kept) < len(entries):
        del entries[:]
        entries.extend(kept)
