"""Pools whose result goes two ways."""

from __future__ import annotations

import numpy as np
import onnx
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ...graph_edits import add_constant, add_tensor, multi_threshold, replace, rewired
from ...graph_reading import attributes_of, read_constant, scalar, shape_of


class RethresholdPooledFork(Transformation):
    """Quantize once more behind a ``MaxPool`` whose result forks into a residual block.

    FINN moves scales past a pool, but not layouts past one whose result forks. A ``MultiThreshold``
    at ``[0.5, 1.5, …]`` behind the pool changes no integer and takes the layout. The pool has to
    follow a ``MultiThreshold``; scales may stand before the pool, and one behind it.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for pool in model.graph.node:
            if pool.op_type != "MaxPool" or not _is_forked(model, pool):
                continue
            quantizer, scale = _quantizer_before(model, pool.input[0])
            if quantizer is None:
                continue
            steps = read_constant(model, quantizer.input[1]).shape[1]
            lowest = int(attributes_of(quantizer).get_nodeattr("out_bias"))
            shape, result = shape_of(model, pool.output[0]), pool.output[0]
            pooled, integers = (add_tensor(model, shape) for _ in range(2))
            thresholds = (np.arange(steps) + lowest + 0.5)[None] * scale
            again = multi_threshold(model, pooled, integers, thresholds, lowest, like=quantizer)
            del again.metadata_props[:]
            rescale = onnx.helper.make_node(
                "Mul", [integers, add_constant(model, np.float32(scale))], [result]
            )
            replace(model, [pool], [rewired(pool, pool.input[0], pooled), again, rescale])
            return model, True
        return model, False


def _is_forked(model: ModelWrapper, pool) -> bool:
    consumers = model.find_consumers(pool.output[0])
    if len(consumers) != 1:
        return len(consumers) > 1
    (scale,) = consumers
    return scale.op_type == "Mul" and model.is_fork_node(scale)


def _quantizer_before(model: ModelWrapper, name: str):
    node, scale = model.find_producer(name), 1.0
    while node is not None and node.op_type == "Mul":
        factor = scalar(model, node.input[1])
        if factor is None:
            return None, scale
        node, scale = model.find_producer(node.input[0]), scale * factor
    if node is None or node.op_type != "MultiThreshold":
        return None, scale
    return (node if scale > 0 else None), scale
