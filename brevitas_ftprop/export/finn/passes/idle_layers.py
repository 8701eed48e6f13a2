"""Pools and truncations that change nothing."""

from __future__ import annotations

from functools import partial

from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ...graph_edits import bypass
from ...graph_reading import initializer, shape_of
from ...node_attributes import integers_in, is_padded
from ...trunc_nodes import truncation_of

POOLS = ("AveragePool", "MaxPool")


class DropIdleLayers(Transformation):
    """Leave out pools of one pixel each, and truncations that take no bit away.

    The first are what an adaptive pool to the size of its input is exported as; the second stand
    in networks whose sums fit in the bits that they are truncated to. A truncation of an average
    over less than the whole map is FINN's QuantAvgPool2d all the same.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for node in model.graph.node:
            is_idle = (
                _is_idle_pool(node)
                or _is_idle_mean(model, node)
                or _is_idle_truncation(model, node)
            )
            # There is nothing that could give an output of the graph instead.
            if is_idle and model.find_producer(node.input[0]) is not None:
                bypass(model, node)
                return model, True
        return model, False


def _is_idle_pool(node: NodeProto) -> bool:
    if node.op_type not in POOLS or is_padded(node):
        return False
    sizes = integers_in(node, "kernel_shape", [0]) + integers_in(node, "strides", [1])
    return all(size == 1 for size in sizes)


def _is_idle_mean(model: ModelWrapper, node: NodeProto) -> bool:
    if node.op_type not in ("GlobalAveragePool", "ReduceMean"):
        return False
    before, after = (shape_of(model, name) for name in (node.input[0], node.output[0]))
    return before == after and before[2:] == [1, 1]


def _is_idle_truncation(model: ModelWrapper, node: NodeProto) -> bool:
    if node.op_type != "Trunc":
        return False
    pool = model.find_producer(node.input[0])
    truncation = truncation_of(node, partial(initializer, model))
    is_of_windows = pool is not None and pool.op_type == "AveragePool"
    if is_of_windows and shape_of(model, node.output[0])[2:] != [1, 1]:
        return False
    return truncation is not None and truncation.is_idle
