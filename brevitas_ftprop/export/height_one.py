"""Networks on signals, of one spatial dimension, as networks on images of height 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from .entry_levels import POINTWISE
from .graph_edits import add_constant, bypass, replace
from .graph_reading import initializer, read_constant, shape_of
from .node_attributes import integers_in

WINDOWS = ("AveragePool", "Conv", "MaxPool")
MEANS = ("GlobalAveragePool", "ReduceMean")
QUANTIZERS = ("BipolarQuant", "MultiThreshold", "Quant", "Trunc")
HEIGHT, WIDTH = 2, 3

Form = Callable[[ModelWrapper, NodeProto], object]


class HeightOne(Transformation):
    """Write a network on signals (N, C, L) as one on images (N, C, 1, L), to the last bit.

    Windows become one pixel high, constants and the graph's ends get an axis of size 1, and what
    only adds or takes that axis goes. A graph without convolutions and averages stays as it is,
    and so does one with an operator on signals that has no such form.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        computed = _computed(model)
        signals, nodes = _signals(model), nodes_on_signals(model)
        forms = [_form(model, node) for node in nodes]
        is_convolutional = any(n.op_type in (*WINDOWS, *MEANS) for n in model.graph.node)
        if not nodes or not is_convolutional or None in forms:
            return model, False
        for node in nodes:
            # The rows of thresholds are channels, whatever the rank.
            if node.op_type != "MultiThreshold":
                _heighten_constants(model, node, computed)
        for name in signals:
            model.set_tensor_shape(name, _with_height(shape_of(model, name)))
        for node, form in zip(nodes, forms, strict=True):
            assert form is not None
            form(model, node)
        return model, False


def nodes_on_signals(model: ModelWrapper, *, without_form: bool = False) -> list[NodeProto]:
    """The nodes that read or give a signal (N, C, L), or those that have no form of height 1."""
    signals = _signals(model)
    nodes = [n for n in model.graph.node if not signals.isdisjoint((*n.input, *n.output))]
    return [n for n in nodes if not without_form or _form(model, n) is None]


def _signals(model: ModelWrapper) -> set[str]:
    return {name for name in _computed(model) if len(model.get_tensor_shape(name) or ()) == 3}


def _computed(model: ModelWrapper) -> set[str]:
    """Names of the tensors that depend on the graph's input."""
    computed = {model.graph.input[0].name}
    for node in model.graph.node:
        if not computed.isdisjoint(node.input):
            computed.update(filter(None, node.output))
    return computed


def _with_height(sizes: Sequence[int], height: int = 1) -> list[int]:
    return [*sizes[:HEIGHT], height, *sizes[HEIGHT:]]


def _heighten_constants(model: ModelWrapper, node: NodeProto, done: set[str]) -> None:
    """Give all constants that a node reads the axis, weights behind their quantizer too.

    Args:
        model: the graph.
        node: one of its nodes.
        done: tensors that are no constants, or have it already; is added to.
    """
    for index, name in enumerate(node.input):
        value, producer = initializer(model, name), model.find_producer(name)
        if value is not None and value.ndim > 1:
            node.input[index] = add_constant(model, np.expand_dims(value, -2))
        elif producer is not None and name not in done:
            done.add(name)
            _heighten_constants(model, producer, done)
            model.set_tensor_shape(name, _with_height(shape_of(model, name)))


def _form(model: ModelWrapper, node: NodeProto) -> Form | None:
    """What brings a node on signals into its form on images; None where none is known."""
    before, after = (model.get_tensor_shape(n[0]) or [] for n in (node.input, node.output))
    if node.op_type in (*POINTWISE, *QUANTIZERS, "GlobalAveragePool"):
        return _lay_out
    if node.op_type in WINDOWS:
        return _heighten_windows
    if node.op_type == "Concat" and integers_in(node, "axis", [0])[0] in (1, -2):
        return _join_channels
    if node.op_type == "Resize":
        return _heighten_sizes
    if node.op_type == "Pad" and len(node.input) < 4:
        return _pad_width
    if node.op_type == "ReduceMean" and _axes(model, node) in ([HEIGHT], [-1]):
        return _average_both
    if node.op_type in ("Flatten", "Reshape") and len(before) == 3 and len(after) == 2:
        return _leave if after[0] == before[0] else None
    if node.op_type == "Unsqueeze" and len(before) == 3 and after == _with_height(before):
        return bypass
    if node.op_type == "Squeeze" and len(after) == 3 and before == _with_height(after):
        return bypass
    return _flatten if node.op_type == "Squeeze" and before == [*after, 1] else None


def _heighten_windows(model: ModelWrapper, node: NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.name in ("kernel_shape", "strides", "dilations"):
            attribute.ints[:] = [1, *attribute.ints]
        elif attribute.name == "pads":
            first, last = attribute.ints
            attribute.ints[:] = [0, first, 0, last]


def _lay_out(model: ModelWrapper, node: NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.name == "data_layout":
            attribute.s = b"NCHW"


def _join_channels(model: ModelWrapper, node: NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.name == "axis":
            attribute.i = 1


def _heighten_sizes(model: ModelWrapper, node: NodeProto) -> None:
    for index, name in enumerate(node.input):
        sizes = initializer(model, name) if name else None
        if sizes is not None and sizes.size == 3:
            node.input[index] = add_constant(model, np.insert(sizes, HEIGHT, 1))


def _pad_width(model: ModelWrapper, node: NodeProto) -> None:
    sides = read_constant(model, node.input[1]).reshape(2, -1)
    node.input[1] = add_constant(model, np.insert(sides, HEIGHT, 0, axis=1).reshape(-1))


def _axes(model: ModelWrapper, node: NodeProto) -> list[int]:
    axes = initializer(model, node.input[1]) if len(node.input) > 1 else None
    return integers_in(node, "axes", []) if axes is None else axes.tolist()


def _average_both(model: ModelWrapper, node: NodeProto) -> None:
    if len(node.input) > 1:
        node.input[1] = add_constant(model, np.array([HEIGHT, WIDTH]))
    for attribute in node.attribute:
        if attribute.name == "axes":
            attribute.ints[:] = [HEIGHT, WIDTH]


def _leave(model: ModelWrapper, node: NodeProto) -> None:
    """Elements in the same order are the same rows."""


def _flatten(model: ModelWrapper, node: NodeProto) -> None:
    flat = onnx.helper.make_node("Flatten", [node.input[0]], [node.output[0]], axis=1)
    flat.metadata_props.extend(node.metadata_props)
    replace(model, [node], [flat])
