"""Pools behind their quantizers."""

from __future__ import annotations

from typing import Any

from onnx import NodeProto
from qonnx.transformation.base import Transformation

from ...tags import READ_BEHIND_POOL
from .graph_edits import replace

__all__ = ["ThresholdBeforePool"]


class ThresholdBeforePool(Transformation):
    """Move a ``MultiThreshold`` that follows a ``MaxPool`` before it, where FINN pools integers.

    A step and a maximum commute, since the thresholds of a level are the same for all positions of
    a channel. The quantizer's node gets the note ``brevitas_ftprop.read_behind_pool``: what it
    gave before is now what the pool gives.
    """

    def apply(self, model: Any):
        for pool in model.graph.node:
            if pool.op_type != "MaxPool" or model.is_fork_node(pool):
                continue
            consumers = model.find_consumers(pool.output[0])
            if len(consumers) == 1 and consumers[0].op_type == "MultiThreshold":
                _swap(model, pool, consumers[0])
                return model, True
        return model, False


def _swap(model: Any, pool: NodeProto, quantizer: NodeProto) -> None:
    integers = model.make_new_valueinfo_name()
    model.set_tensor_shape(integers, model.get_tensor_shape(pool.input[0]))
    first, second = NodeProto(), NodeProto()
    first.CopyFrom(quantizer)
    second.CopyFrom(pool)
    first.input[0], first.output[0] = pool.input[0], integers
    second.input[0], second.output[0] = integers, quantizer.output[0]
    if first.metadata_props:
        first.metadata_props.add(key=READ_BEHIND_POOL, value="yes")
    replace(model, [pool, quantizer], [first, second])
