"""Pools behind their quantizers."""

from __future__ import annotations

from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ...graph_edits import add_tensor, replace, rewired
from ...graph_reading import shape_of
from ...tags import READ_BEHIND_POOL


class ThresholdBeforePool(Transformation):
    """Move a ``MultiThreshold`` that follows a ``MaxPool`` before it, where FINN pools integers.

    A step and a maximum commute, since the thresholds of a level are the same for all positions of
    a channel. The quantizer's node gets the note ``brevitas_ftprop.read_behind_pool``: what it
    gave before is now what the pool gives.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for pool in model.graph.node:
            if pool.op_type != "MaxPool" or model.is_fork_node(pool):
                continue
            consumers = model.find_consumers(pool.output[0])
            if len(consumers) == 1 and consumers[0].op_type == "MultiThreshold":
                _swap(model, pool, consumers[0])
                return model, True
        return model, False


def _swap(model: ModelWrapper, pool: NodeProto, quantizer: NodeProto) -> None:
    integers = add_tensor(model, shape_of(model, pool.input[0]))
    first = rewired(quantizer, pool.input[0], integers)
    if first.metadata_props:
        first.metadata_props.add(key=READ_BEHIND_POOL, value="yes")
    replace(model, [pool, quantizer], [first, rewired(pool, integers, quantizer.output[0])])
