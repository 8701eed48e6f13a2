"""Small edits of a graph of QONNX or FINN that passes share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper

from .graph_reading import shape_of
from .integer_types import integer_type

# Of QONNX's own operators.
GENERAL = "qonnx.custom_op.general"
LARGEST = np.finfo(np.float32).max


def add_constant(model: ModelWrapper, value: np.ndarray | np.floating) -> str:
    """Name of a new initializer that holds ``value``."""
    name = model.make_new_valueinfo_name()
    model.set_initializer(name, np.asarray(value))
    return name


def add_tensor(model: ModelWrapper, shape: Sequence[int]) -> str:
    """Name of a new tensor of a shape, which a node is to give."""
    name = model.make_new_valueinfo_name()
    model.set_tensor_shape(name, shape)
    return name


def rewired(node: NodeProto, source: str, result: str) -> NodeProto:
    """A copy of a node that reads another tensor first, and gives another one."""
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[0], copy.output[0] = source, result
    return copy


def replace(model: ModelWrapper, old: Sequence[NodeProto], new: Sequence[NodeProto]) -> None:
    """Put nodes in the place of others."""
    graph = model.graph
    position = min(index for index, node in enumerate(graph.node) if node in old)
    for node in old:
        graph.node.remove(node)
    for offset, node in enumerate(new):
        graph.node.insert(position + offset, node)


def bypass(model: ModelWrapper, node: NodeProto) -> None:
    """Leave out a node of one input and one output that another node's result goes into."""
    graph, source, result = model.graph, node.input[0], node.output[0]
    graph.node.remove(node)
    if result in [entry.name for entry in graph.output]:
        # A graph's output keeps its name.
        before = model.find_producer(source)
        assert before is not None
        before.output[0] = result
        source, result = result, source
    for reader in graph.node:
        for index, name in enumerate(reader.input):
            if name == result:
                reader.input[index] = source


def multi_threshold(
    model: ModelWrapper,
    source: str,
    result: str,
    thresholds: np.ndarray,
    lowest: int,
    *,
    like: NodeProto,
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
    rank = len(shape_of(model, source))
    node = onnx.helper.make_node(
        "MultiThreshold",
        [source, add_constant(model, np.clip(thresholds, -LARGEST, LARGEST).astype(np.float32))],
        [result],
        domain=GENERAL,
        out_dtype=integer_type(lowest, lowest + steps),
        out_scale=1.0,
        out_bias=float(lowest),
        data_layout="NCHW" if rank == 4 else "NC",
    )
    node.metadata_props.extend(like.metadata_props)
    return node
