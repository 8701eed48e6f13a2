"""What nodes that only copy values do: concatenations of channels, and upsampling."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import NodeProto

from .node_attributes import attribute_values, integers_in

CHANNELS = 1
# As PyTorch's "nearest" is exported; by whole numbers it repeats each value.
NEAREST = {
    "mode": "nearest",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
}


def joins_channels(node: NodeProto, rank: int) -> bool:
    """Whether a node is a ``Concat`` along axis 1 of tensors with so many axes."""
    return node.op_type == "Concat" and integers_in(node, "axis", [0])[0] % rank == CHANNELS


def copies_of(node: NodeProto, before: Sequence[int], after: Sequence[int]) -> list[int] | None:
    """How often a ``Resize`` repeats values along each axis; None where it does something else.

    Args:
        node: the ``Resize``.
        before, after: shapes of what it reads and gives, (N, C, H, W).
    """
    attributes = NEAREST | attribute_values(node)
    is_nearest = all(attributes[name] == value for name, value in NEAREST.items())
    if not is_nearest or len(before) != 4 or list(before[:2]) != list(after[:2]):
        return None
    is_whole = all(size % known == 0 for size, known in zip(after, before, strict=True))
    return [size // known for size, known in zip(after, before, strict=True)] if is_whole else None
