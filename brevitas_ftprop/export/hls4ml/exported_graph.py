"""An exported QONNX graph, indexed: constants, shapes, and the nodes that depend on the input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from ..errors import ExportError
from ..layer_names import LAYER
from ..node_attributes import attribute_values, note_of
from ..tags import QUANTIZER
from .elementwise import QUANTIZERS, apply_step


@dataclass(frozen=True)
class Constant:
    """A constant tensor; of weights, the integers beside their scale.

    Attributes:
        value: float32 (or integer, for shapes).
        scale: of the quantizer node that made it, broadcastable to ``value``; None without one.
        quantizer: name of the quantizer, or "".
    """

    value: np.ndarray
    scale: np.ndarray | None = None
    quantizer: str = ""


class Graph:
    """A graph with one input and one output.

    Attributes:
        model: the graph itself.
        constants: by the names of their tensors, those of quantized weights among them.
        input, output: names of the tensors that enter and leave.
        shapes: of the tensors, by name.
        nodes: those that depend on the input, in order.

    Raises:
        ExportError: if there are several inputs or outputs.
    """

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        graph = model.graph
        self.constants = {
            tensor.name: Constant(np.array(onnx.numpy_helper.to_array(tensor)))
            for tensor in graph.initializer
        }
        for node in graph.node:
            if all(name in self.constants for name in node.input if name):
                self._fold(node)
        if len(graph.input) != 1 or len(graph.output) != 1:
            raise ExportError("the model must have one input and one output tensor")
        self.input, self.output = graph.input[0].name, graph.output[0].name
        self.shapes = {
            info.name: tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
            for info in (*graph.input, *graph.value_info, *graph.output)
        }
        self.nodes, self._computed, self._readers = [], {self.input}, {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
            if not self._computed.isdisjoint(node.input):
                self.nodes.append(node)
                self._computed.update(node.output)

    def _fold(self, node: NodeProto) -> None:
        """Weights: a quantizer node on constants."""
        inputs = [self.constants[name] for name in node.input]
        if node.op_type == "Transpose":
            order = attribute_values(node).get("perm")
            scale = inputs[0].scale
            if scale is not None and scale.size > 1:
                scale = np.transpose(scale, order)
            value = np.transpose(inputs[0].value, order)
            self.constants[node.output[0]] = Constant(value, scale, inputs[0].quantizer)
        elif node.op_type in QUANTIZERS and node.op_type != "MultiThreshold":
            value = apply_step(node, [c.value for c in inputs])
            self.constants[node.output[0]] = Constant(value, inputs[1].value, quantizer_of(node))

    def computed_inputs(self, node: NodeProto) -> list[str]:
        """Those of a node's inputs that depend on the graph's."""
        return [name for name in node.input if name in self._computed]

    def readers(self, name: str) -> list[NodeProto]:
        """The nodes that read a tensor."""
        return self._readers.get(name, [])

    def operands(self, node: NodeProto) -> list[np.ndarray | None]:
        """Constant inputs of a node; None where the data comes in."""
        return [
            self.constants[name].value if name in self.constants else None for name in node.input
        ]


def layer_of(graph: Graph, node: NodeProto) -> str:
    """Name of the PyTorch layer that a node comes from: the one with the weights that it reads."""
    names = [graph.constants[n].quantizer for n in node.input if n in graph.constants]
    found = next((name for name in names if name), "")
    return found.rpartition(".")[0] or note_of(node, LAYER) or node.name


def quantizer_of(node: NodeProto) -> str:
    """PyTorch name of the quantizer that a node belongs to, or "" """
    return note_of(node, QUANTIZER) or ""


def describe(node: NodeProto) -> str:
    """A node for messages: its type, name and quantizer."""
    quantizer = quantizer_of(node)
    return f"{node.op_type} {node.name}" + (f" of {quantizer}" if quantizer else "")
