"""Attributes of ONNX nodes, as numbers, and notes in their metadata."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import NodeProto

__all__ = ["integers_in", "is_padded", "note_of"]


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
