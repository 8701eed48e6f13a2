"""Max pools whose padding would be mistaken for a value."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ...graph_edits import add_tensor, multi_threshold, replace, rewired
from ...graph_reading import attributes_of, read_constant, scalar, shape_of
from ...node_attributes import is_padded
from ...tags import READ_BEHIND_POOL


class UnsignedPaddedPool(Transformation):
    """Let a padded ``MaxPool`` behind a signed ``MultiThreshold`` work on unsigned integers.

    FINN pads with 0, ONNX with minus infinity: the same to unsigned integers, not to signed ones.
    The thresholds lose their bias, and thresholds ``[0.5, 1.5, …]`` behind the pool add it again. A
    positive scale between the two moves behind the pool first.

    References:
        finn-plus 1.6.1, ``FMPadding`` (pads with 0 only).
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for pool in model.graph.node:
            if pool.op_type != "MaxPool" or not is_padded(pool):
                continue
            quantizer = model.find_producer(pool.input[0])
            if quantizer is None:
                continue
            if _is_scale(model, quantizer):
                _move_behind(model, quantizer, pool)
                return model, True
            if quantizer.op_type != "MultiThreshold":
                continue
            lowest = int(attributes_of(quantizer).get_nodeattr("out_bias"))
            if lowest < 0 and not model.is_fork_node(quantizer):
                _rewrite(model, quantizer, pool, lowest)
                return model, True
        return model, False


def _is_scale(model: ModelWrapper, node: NodeProto) -> bool:
    if node.op_type != "Mul" or model.is_fork_node(node):
        return False
    factor = scalar(model, node.input[1])
    before = model.find_producer(node.input[0])
    is_behind_quantizer = before is not None and before.op_type == "MultiThreshold"
    return factor is not None and factor > 0 and is_behind_quantizer


def _move_behind(model: ModelWrapper, scale: NodeProto, pool: NodeProto) -> None:
    result = pool.output[0]
    pooled = add_tensor(model, shape_of(model, result))
    new = [rewired(pool, scale.input[0], pooled), rewired(scale, pooled, result)]
    replace(model, [scale, pool], new)


def _rewrite(model: ModelWrapper, quantizer: NodeProto, pool: NodeProto, lowest: int) -> None:
    thresholds = read_constant(model, quantizer.input[1])
    # A sign's two equal thresholds are one step, up by two: one is enough before the pool.
    is_sign = thresholds.shape[1] == 2 and bool((thresholds[:, 0] == thresholds[:, 1]).all())
    distinct = thresholds[:, :1] if is_sign else thresholds
    reached, pooled = (
        add_tensor(model, shape_of(model, name)) for name in (pool.input[0], pool.output[0])
    )
    again = np.repeat(np.arange(distinct.shape[1]) + 0.5, 1 + is_sign)[None]
    first = multi_threshold(model, quantizer.input[0], reached, distinct, 0, like=quantizer)
    second = multi_threshold(model, pooled, pool.output[0], again, lowest, like=quantizer)
    is_read_behind = any(entry.key == READ_BEHIND_POOL for entry in quantizer.metadata_props)
    del (first if is_read_behind else second).metadata_props[:]
    kept = [entry for entry in second.metadata_props if entry.key != READ_BEHIND_POOL]
    del second.metadata_props[:]
    second.metadata_props.extend(kept)
    replace(model, [quantizer, pool], [first, rewired(pool, reached, pooled), second])
