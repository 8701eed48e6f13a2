"""Paddings of their own, in front of convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ...graph_edits import add_constant, add_tensor, replace, rewired
from ...graph_reading import attributes_of, initializer, read_constant, scalar, shape_of
from ...integer_types import integer_type
from ...node_attributes import integers_in, padding_of
from .reached import is_thresholded, move_thresholds, padding_in, readers

TO_CHANNELS_LAST = [0, 2, 3, 1]


class PadIntegers(Transformation):
    """Move the scale in front of a ``Pad`` behind it, and let it pad with the integer.

    FINN moves scales past convolutions and pools, and would leave this one where it is.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for pad in model.get_nodes_by_op_type("Pad"):
            scale = model.find_producer(pad.input[0])
            factor = scalar(model, scale.input[1]) if scale and scale.op_type == "Mul" else None
            if scale is None or not factor:
                continue
            integers = add_tensor(model, shape_of(model, pad.output[0]))
            value = _value(model, pad) / np.float32(factor)
            inside = rewired(pad, scale.input[0], integers)
            del inside.input[2:]
            inside.input.append(add_constant(model, np.float32(value)))
            behind = onnx.helper.make_node("Mul", [integers, scale.input[1]], [pad.output[0]])
            # Left with no reader, the scale would count as one that reads the integers.
            is_read = len(model.find_consumers(scale.output[0])) > 1
            replace(model, [pad] if is_read else [scale, pad], [inside, behind])
            return model, True
        return model, False


class PadIntoWindows(Transformation):
    """Let the windows behind a ``Pad`` pad by themselves, with its integer.

    ``Pad`` (N, C, H, W), ``Transpose`` and ``Im2Col`` become ``Transpose`` and ``Im2Col``, whose
    ``pad_value`` QONNX computes with.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for pad in model.get_nodes_by_op_type("Pad"):
            sizes = padding_of(pad, initializer(model, pad.input[1]))
            value = float(_value(model, pad))
            for transpose in model.find_consumers(pad.output[0]):
                windows = model.find_consumers(transpose.output[0])
                if (
                    sizes is not None
                    and value.is_integer()
                    and integers_in(transpose, "perm", ()) == TO_CHANNELS_LAST
                    and all(_is_unpadded(node) for node in windows)
                ):
                    _pad_in(model, pad, transpose, windows, (sizes, int(value)))
                    return model, True
        return model, False


class UnsignedPaddedWindows(Transformation):
    """Let windows that pad with a quantizer's lowest integer work on unsigned integers.

    FINN pads with 0 only. The integers lose the lowest, l, so that it is 0 in them, and a threshold
    t on a sum of their products with weights w becomes t - l·Σw. All readers of the quantizer have
    to end in thresholds; the graph is streamlined.

    References:
        finn-plus 1.6.1, ``finn-rtllib/fmpadding/hdl/fmpadding.sv`` (the padding is ``'0``) and
        ``InferConvInpGen`` (refuses any other ``pad_value``).
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for quantizer in model.get_nodes_by_op_type("MultiThreshold"):
            lowest = int(attributes_of(quantizer).get_nodeattr("out_bias"))
            reached = list(readers(model, quantizer.output[0]))
            paddings = {padding_in(node) for node in reached} - {None}
            if lowest and paddings == {lowest} and all(is_thresholded(model, n) for n in reached):
                _lift(model, quantizer, lowest, reached)
        return model, False


def _lift(model: ModelWrapper, quantizer: NodeProto, lowest: int, reached: Sequence[Any]) -> None:
    kind = integer_type(0, read_constant(model, quantizer.input[1]).shape[1])
    attributes = attributes_of(quantizer)
    attributes.set_nodeattr("out_dtype", kind)
    attributes.set_nodeattr("out_bias", 0.0)
    model.set_tensor_datatype(quantizer.output[0], DataType[kind])
    for node in reached:
        if node.op_type == "MultiThreshold":
            move_thresholds(model, node, lambda integers: integers - lowest)
        elif node.op_type == "MatMul":
            totals = read_constant(model, node.input[1]).sum(0, dtype=np.float64)[:, None]
            (behind,) = model.find_consumers(node.output[0])
            move_thresholds(model, behind, lambda sums, add=lowest * totals: sums - add)
        else:
            if node.op_type == "Im2Col":
                attributes_of(node).set_nodeattr("pad_value", 0)
            model.set_tensor_datatype(node.output[0], DataType[kind])


def _is_unpadded(node: NodeProto) -> bool:
    return node.op_type == "Im2Col" and not any(integers_in(node, "pad_amount", [0]))


def _pad_in(
    model: ModelWrapper,
    pad: NodeProto,
    transpose: NodeProto,
    windows: list[NodeProto],
    padding: tuple[list[int], int],
) -> None:
    source = pad.input[0]
    batch, channels, height, width = shape_of(model, source)
    shape = batch, height, width, channels
    last = add_tensor(model, shape)
    kind = model.get_tensor_datatype(source)
    model.set_tensor_datatype(last, kind)
    for node in windows:
        node.input[0] = last
        attributes = attributes_of(node)
        attributes.set_nodeattr("pad_amount", padding[0])
        attributes.set_nodeattr("pad_value", padding[1])
        attributes.set_nodeattr("input_shape", str(shape).replace(" ", ""))
    old = [transpose] if len(model.find_consumers(pad.output[0])) > 1 else [transpose, pad]
    replace(model, old, [rewired(transpose, source, last)])


def _value(model: ModelWrapper, pad: NodeProto) -> np.floating:
    value = read_constant(model, pad.input[2]) if len(pad.input) > 2 and pad.input[2] else 0.0
    return np.float32(np.asarray(value).reshape(()))
