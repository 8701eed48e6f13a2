"""Sizes of paddings, which the TorchScript exporter computes inside the graph."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, numpy_helper
from onnx.reference import ReferenceEvaluator


def make_padding_sizes_constant(graph: ModelProto) -> None:
    """Give each ``Pad`` its sizes as an initializer, in place, and the output the shape they give.

    Without them no shape behind a padding can be inferred.
    """
    known = {tensor.name for tensor in graph.graph.initializer}
    producers = {name: node for node in graph.graph.node for name in node.output}
    evaluated: list[NodeProto] = []
    for pad in (node for node in graph.graph.node if node.op_type == "Pad"):
        nodes = _before(pad.input[1], producers)
        read = {name for node in nodes for name in node.input if name} - known - producers.keys()
        if nodes and not read:
            sizes = _evaluated(graph, nodes, pad.input[1])
            name = f"{pad.input[1]}_sizes"
            graph.graph.initializer.append(numpy_helper.from_array(sizes, name))
            pad.input[1] = name
            evaluated += nodes
    if evaluated:
        _remove_unread(graph, evaluated)
        _infer_output(graph)


def _remove_unread(graph: ModelProto, nodes: list[NodeProto]) -> None:
    for node in reversed(nodes):
        read = {name for each in graph.graph.node for name in each.input}
        if node in graph.graph.node and read.isdisjoint(node.output):
            graph.graph.node.remove(node)


def _infer_output(graph: ModelProto) -> None:
    inferred = ModelProto()
    inferred.CopyFrom(graph)
    # What the exporter told of shapes is kept where it is told, unknown sizes too.
    inferred.graph.ClearField("value_info")
    for entry in inferred.graph.output:
        entry.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(inferred)
    for entry, found in zip(graph.graph.output, inferred.graph.output, strict=True):
        if found.type.tensor_type.HasField("shape"):
            entry.CopyFrom(found)


def _before(name: str, producers: dict[str, NodeProto]) -> list[NodeProto]:
    """The nodes that a tensor depends on, in order."""
    node, found = producers.get(name), []
    for source in () if node is None else node.input:
        found += [each for each in _before(source, producers) if each not in found]
    return found if node is None else [*found, node]


def _evaluated(graph: ModelProto, nodes: list[NodeProto], name: str) -> np.ndarray:
    output = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None)
    part = onnx.helper.make_graph(nodes, "sizes", [], [output], graph.graph.initializer)
    model = onnx.helper.make_model(part, opset_imports=graph.opset_import)
    (sizes,) = ReferenceEvaluator(model).run(None, {})
    return np.asarray(sizes)
