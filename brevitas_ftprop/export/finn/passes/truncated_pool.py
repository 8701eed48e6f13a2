"""Average pools with a truncation behind them."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx
from onnx import NodeProto
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ...graph_edits import GENERAL, add_constant, add_tensor, replace
from ...graph_reading import attributes_of, initializer, scalar, shape_of
from ...integer_types import integer_type
from ...node_attributes import integers_in
from ...trunc_nodes import truncation_of


class TruncatedPoolToQuantAvgPool(Transformation):
    """Write an ``AveragePool`` and the ``Trunc`` behind it as FINN's ``QuantAvgPool2d``.

    It adds up a window of integers and shifts the sum right, which is FLOOR of their average over
    a power of two. It reads the ``MultiThreshold`` itself, before its scale: a scale that is
    divided out again would leave floats.

    Raises:
        ValueError: for a truncation that this is not.

    References:
        finn-plus 1.6.1, ``AvgPoolAndTruncToQuantAvgPool`` (takes the number of bits of the input
        from that of the sum, which several have in common).
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for trunc in model.get_nodes_by_op_type("Trunc"):
            pool = model.find_producer(trunc.input[0])
            truncation = truncation_of(trunc, partial(initializer, model))
            if pool is None or truncation is None:
                raise ValueError(f"{trunc.name} does not truncate an average by one scale")
            before = _before(model, pool)
            levels = None if before is None else _levels(model, before[0])
            reason = truncation.refusal(pool, shape_of(model, pool.input[0])[2:], levels)
            if before is None or levels is None or reason is not None:
                raise ValueError(f"{trunc.name} is {reason}")
            quantizer, scale = before
            integers = add_tensor(model, shape_of(model, trunc.output[0]))
            new = [
                onnx.helper.make_node(
                    "QuantAvgPool2d",
                    [quantizer.output[0]],
                    [integers],
                    domain=GENERAL,
                    kernel=integers_in(pool, "kernel_shape", [])[0],
                    stride=integers_in(pool, "strides", [1])[0],
                    ibits=DataType[integer_type(*levels)].bitwidth(),
                    obits=min(truncation.kept, truncation.bits),
                    signed=int(truncation.signed),
                    data_layout="NCHW",
                ),
                onnx.helper.make_node(
                    "Mul",
                    [integers, add_constant(model, np.float32(truncation.scale))],
                    [trunc.output[0]],
                ),
            ]
            alone = [] if model.is_fork_node(scale) else [scale]
            replace(model, [*alone, pool, trunc], new)
            return model, True
        return model, False


def _before(model: ModelWrapper, pool: NodeProto) -> tuple[NodeProto, NodeProto] | None:
    """The thresholds and the scale before a pool that only a truncation reads."""
    scale = model.find_producer(pool.input[0])
    if scale is None or scale.op_type != "Mul" or scalar(model, scale.input[1]) is None:
        return None
    quantizer = model.find_producer(scale.input[0])
    if quantizer is None or quantizer.op_type != "MultiThreshold" or model.is_fork_node(pool):
        return None
    return quantizer, scale


def _levels(model: ModelWrapper, quantizer: NodeProto) -> tuple[int, int]:
    lowest = int(attributes_of(quantizer).get_nodeattr("out_bias"))
    return lowest, lowest + shape_of(model, quantizer.input[1])[1]
