"""Which sums and thresholds a quantizer's integers reach, and other integers for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper

from ...graph_edits import LARGEST, add_constant
from ...graph_reading import attributes_of, initializer, read_constant
from ...node_attributes import integers_in

# What moves or chooses among integers, each of them as it is.
PASSED = ("Flatten", "Im2Col", "MaxPool", "MaxPoolNHWC", "Reshape", "Transpose")


def readers(model: ModelWrapper, name: str) -> Iterator[NodeProto | None]:
    """The nodes that a tensor reaches, those included that pass it on; None for the output."""
    consumers = model.find_consumers(name)
    if not consumers:
        yield None
    for node in consumers:
        yield node
        if node.op_type in PASSED:
            yield from readers(model, node.output[0])


def is_thresholded(model: ModelWrapper, node: NodeProto | None, *ends: str) -> bool:
    """Whether integers that a node reads go on, or into thresholds, as they are or summed up.

    Args:
        model: a streamlined graph.
        node: one of ``readers``.
        ends: other operators that may read the sums.
    """
    if node is not None and node.op_type == "MatMul":
        behind = model.find_consumers(node.output[0])
        is_known = initializer(model, node.input[1]) is not None
        return is_known and len(behind) == 1 and behind[0].op_type in ("MultiThreshold", *ends)
    return node is not None and node.op_type in ("MultiThreshold", *PASSED)


def padding_in(node: NodeProto | None) -> int | None:
    """The integer with which windows pad; None for other nodes and windows without padding."""
    if node is None or node.op_type != "Im2Col" or not any(integers_in(node, "pad_amount", [0])):
        return None
    return attributes_of(node).get_nodeattr("pad_value")


def move_thresholds(
    model: ModelWrapper, quantizer: NodeProto, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Give a ``MultiThreshold`` other thresholds, computed in float64, (channels or 1, steps)."""
    moved = change(read_constant(model, quantizer.input[1]).astype(np.float64))
    quantizer.input[1] = add_constant(model, np.clip(moved, -LARGEST, LARGEST).astype(np.float32))
