"""Fold elementwise nodes into one factor and one offset for each channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto

from ..errors import ExportError
from ..node_attributes import attribute_values


def folded(
    node: NodeProto,
    constants: Sequence[np.ndarray | None],
    factor: np.ndarray,
    offset: np.ndarray,
    *,
    name: str = "",
) -> tuple[np.ndarray, np.ndarray]:
    """``node(factor·x + offset)`` as a new factor and offset, float64 arrays (C,).

    Args:
        node: Add, Sub, Mul, Div, BatchNormalization or Identity.
        constants: its constant inputs; None where the data comes in.
        factor: float64 array (C,).
        offset: float64 array (C,).
        name: of the layer, for messages.

    Raises:
        ExportError: for another operator.

    >>> import onnx
    >>> node = onnx.helper.make_node("Add", ["x", "two"], ["y"])
    >>> folded(node, [None, np.array(2.0)], np.array([3.0]), np.array([1.0]))
    (array([3.]), array([3.]))
    """
    flat = [None if c is None else c.astype(np.float64).reshape(-1) for c in constants]
    if node.op_type == "BatchNormalization":
        weight, bias, mean, variance = (value for value in flat if value is not None)
        slope = weight / np.sqrt(variance + attribute_values(node).get("epsilon", 1e-5))
        return factor * slope, (offset - mean) * slope + bias
    other = next((value for value in flat if value is not None), np.zeros(1))
    comes_first = flat[0] is None
    if node.op_type == "Add":
        return factor, offset + other
    if node.op_type == "Sub":
        return (factor, offset - other) if comes_first else (-factor, other - offset)
    if node.op_type == "Mul":
        return factor * other, offset * other
    if node.op_type == "Div" and comes_first:
        return factor / other, offset / other
    if node.op_type == "Identity":
        return factor, offset
    raise ExportError(
        f"{node.op_type} behind {name} is not a scale and a bias: end the model with a layer, a "
        "batch norm or a quantizer"
    )
