"""Quantizers behind a flattening."""

from __future__ import annotations

from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ...graph_edits import add_tensor, replace, rewired
from ...graph_reading import initializer, shape_of

FLATTENINGS = ("Flatten", "Reshape")
ARITHMETIC = ("Add", "Div", "Mul", "Sub")


class QuantizeBeforeFlattening(Transformation):
    """Let a quantizer with the same steps for all elements change places with a flattening.

    FINN flattens integers only, and the thresholds of a quantizer behind would have to tell
    channels from positions. ReLUs, factors and summands between
    the two go along. A ``Reshape`` of the image
    itself, which FINN leaves out, stays where it is.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for flattening in model.graph.node:
            if flattening.op_type not in FLATTENINGS or not _is_of_map(model, flattening):
                continue
            moved, node = [], _only_reader(model, flattening)
            while node is not None and _is_elementwise(model, node):
                moved.append(node)
                node = _only_reader(model, node)
            if node is not None and _has_one_step(model, node):
                _swap(model, flattening, [*moved, node])
                return model, True
        return model, False


def _is_of_map(model: ModelWrapper, node: NodeProto) -> bool:
    before, after = (shape_of(model, name) for name in (node.input[0], node.output[0]))
    is_image = node.input[0] == model.graph.input[0].name and node.op_type == "Reshape"
    return len(before) == 4 and len(after) == 2 and not is_image


def _only_reader(model: ModelWrapper, node: NodeProto) -> NodeProto | None:
    readers = model.find_consumers(node.output[0])
    is_output = node.output[0] == model.graph.output[0].name
    return readers[0] if len(readers) == 1 and not is_output else None


def _is_elementwise(model: ModelWrapper, node: NodeProto) -> bool:
    """Whether a node is a ReLU, or arithmetic with one number."""
    if node.op_type not in ARITHMETIC:
        return node.op_type == "Relu"
    number = initializer(model, node.input[1])
    return number is not None and number.size == 1


def _has_one_step(model: ModelWrapper, node: NodeProto) -> bool:
    """Whether a node is a quantizer of the same parameters for all elements."""
    parameters = [initializer(model, name) for name in node.input[1:]]
    if node.op_type == "MultiThreshold":
        return all(value is not None and value.shape[0] == 1 for value in parameters)
    is_one = all(value is not None and value.size == 1 for value in parameters)
    return node.op_type in ("Quant", "BipolarQuant") and is_one


def _swap(model: ModelWrapper, flattening: NodeProto, moved: list[NodeProto]) -> None:
    shape, source = shape_of(model, flattening.input[0]), flattening.input[0]
    result, new = moved[-1].output[0], []
    for node in moved:
        new.append(rewired(node, source, add_tensor(model, shape)))
        source = new[-1].output[0]
        if node.op_type == "MultiThreshold":
            _set_layout(new[-1])
    replace(model, [flattening, *moved], [*new, rewired(flattening, source, result)])


def _set_layout(node: NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.name == "data_layout":
            attribute.s = b"NCHW"
