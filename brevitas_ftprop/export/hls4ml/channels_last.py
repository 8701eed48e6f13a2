"""Bring a graph of integer layers into the layout of hls4ml: channels last."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ..graph_reading import read_constant, shape_of

DOMAIN = "qonnx.custom_op.channels_last"
LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
IMAGES, CHANNELS = 4, 3


class ChannelsLast(Transformation):
    """All images of a graph that ``MultiThresholdToQuant`` wrote as (N, H, W, C), ends included.

    A flattening that only matrix products read takes the other order, and their weights follow;
    before any other one the channels move back to the front.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        graph = model.graph
        constants = {tensor.name for tensor in graph.initializer}
        for node in list(graph.node):
            if node.op_type == "Conv":
                _permute_weights(model, node)
            if node.op_type in ("Conv", "MaxPool", "BatchNormalization") and _is_image(model, node):
                node.domain = DOMAIN
            if node.op_type == "Pad":
                pads = read_constant(model, node.input[1]).reshape(2, IMAGES)
                model.set_initializer(node.input[1], pads[:, LAST].reshape(-1))
            if node.op_type == "Concat" and _is_image(model, node):
                del node.attribute[:]
                node.attribute.append(helper.make_attribute("axis", CHANNELS))
            if node.op_type == "Flatten" and _is_image(model, node):
                _flatten(model, node)
        for entry in (*graph.input, *graph.output, *graph.value_info):
            dims = entry.type.tensor_type.shape.dim
            is_constant = entry.name in constants or _is_weight(model, entry.name)
            if len(dims) == IMAGES and not is_constant:
                sizes = [dims[axis].dim_value for axis in LAST]
                for dim, size in zip(dims, sizes, strict=True):
                    dim.dim_value = size
        imported = {entry.domain: entry.version for entry in model.model.opset_import}
        if DOMAIN not in imported:
            model.model.opset_import.append(helper.make_opsetid(DOMAIN, imported[""]))
        return model, False


def _is_image(model: ModelWrapper, node: NodeProto) -> bool:
    return len(shape_of(model, node.input[0])) == IMAGES


def _permute_weights(model: ModelWrapper, node: NodeProto) -> None:
    """(M, C, kh, kw) → (M, kh, kw, C), in front of the weights' quantizer."""
    quantizer = model.find_producer(node.input[1])
    assert quantizer is not None
    values = read_constant(model, quantizer.input[0]).transpose(LAST)
    model.set_initializer(quantizer.input[0], values)
    model.set_tensor_shape(quantizer.output[0], values.shape)


def _flatten(model: ModelWrapper, node: NodeProto) -> None:
    _, channels, height, width = shape_of(model, node.input[0])
    if channels == 1 or height == width == 1:
        return
    readers = model.find_consumers(node.output[0]) or []
    is_output = any(node.output[0] == entry.name for entry in model.graph.output)
    if not is_output and all(reader.op_type == "MatMul" for reader in readers):
        order = np.arange(channels * height * width).reshape(channels, height, width)
        for reader in readers:
            quantizer = model.find_producer(reader.input[1])
            assert quantizer is not None
            values = read_constant(model, quantizer.input[0])
            # Of images without a batch: their axes count from 0.
            rows = order.transpose(1, 2, 0).reshape(-1)
            model.set_initializer(quantizer.input[0], values[rows])
        return
    _move_channels(model, node)


def _move_channels(model: ModelWrapper, node: NodeProto) -> None:
    tensor = f"{node.output[0]}_channels_first"
    shape = shape_of(model, node.input[0])
    name = f"{node.name}_move"
    moved = helper.make_node("Transpose", [node.input[0]], [tensor], name, perm=FIRST)
    node.input[0] = tensor
    model.graph.node.insert(list(model.graph.node).index(node), moved)
    # Given channels first, it is turned with the others: its own shape is given in their order.
    model.set_tensor_shape(tensor, [shape[axis] for axis in FIRST])


def _is_weight(model: ModelWrapper, name: str) -> bool:
    producer = model.find_producer(name)
    return producer is not None and model.get_initializer(producer.input[0]) is not None
