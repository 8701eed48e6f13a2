"""Small edits of a graph that the passes share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto
from qonnx.custom_op.registry import getCustomOp

from ...integer_types import integer_type

__all__ = [
    "attributes_of",
    "constant",
    "multi_threshold",
    "replace",
    "scalar",
]

LARGEST = np.finfo(np.float32).max


def attributes_of(node: NodeProto) -> Any:
    """The attributes of a QONNX or FINN node, with their defaults."""
    return getCustomOp(node)


def constant(model: Any, value: np.ndarray | np.floating) -> str:
    """Name of a new initializer that holds ``value``."""
    name = model.make_new_valueinfo_name()
    model.set_initializer(name, np.asarray(value))
    return name


def scalar(model: Any, name: str) -> float | None:
    """The number that an initializer holds, None if it is none or has several values."""
    value = model.get_initializer(name)
    if value is None or np.unique(value).size != 1:
        return None
    return float(value.reshape(-1)[0])


def replace(model: Any, old: Sequence[NodeProto], new: Sequence[NodeProto]) -> None:
    """Put nodes in the place of others."""
    graph = model.graph
    position = min(index for index, node in enumerate(graph.node) if node in old)
    for node in old:
        graph.node.remove(node)
    for offset, node in enumerate(new):
        graph.node.insert(position + offset, node)


def multi_threshold(
    model: Any, source: str, result: str, thresholds: np.ndarray, lowest: int, *, like: NodeProto
) -> NodeProto:
    """A MultiThreshold node with the integers ``lowest`` … ``lowest`` + number of thresholds.

    Args:
        model: the graph that it is for.
        source: tensor that it reads, (N, C) or (N, C, H, W).
        result: tensor that it gives.
        thresholds: (channels or 1, steps), ascending; infinite ones are never reached.
        lowest: the smallest integer.
        like: the node whose quantizer's name it takes over.
    """
    steps = thresholds.shape[1]
    rank = len(model.get_tensor_shape(source))
    node = onnx.helper.make_node(
        "MultiThreshold",
        [source, constant(model, np.clip(thresholds, -LARGEST, LARGEST).astype(np.float32))],
        [result],
        domain="qonnx.custom_op.general",
        out_dtype=integer_type(lowest, lowest + steps),
        out_scale=1.0,
        out_bias=float(lowest),
        data_layout="NCHW" if rank == 4 else "NC",
    )
    node.metadata_props.extend(like.metadata_props)
    return node
