"""Read an exported QONNX graph as a sequence of layers, each ending in a quantizer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from ..errors import ExportError
from ..node_attributes import attribute_values, note_of
from ..tags import QUANTIZER
from .elementwise import QUANTIZERS, Levels, apply_step, is_elementwise, levels_of

SUMS = ("Conv", "Gemm", "MatMul")
MOVES = ("MaxPool", "Reshape", "Flatten")
# What each unsupported operator is to be replaced by.
ADVICE = {
    "AveragePool": "use max pooling or a strided convolution",
    "GlobalAveragePool": "use max pooling or a fully connected layer",
    "ReduceMean": "use max pooling or a fully connected layer",
    "Sigmoid": "use a quantized activation instead",
    "Tanh": "use a quantized activation instead",
}


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


@dataclass
class Stage:
    """One layer: its sums, what follows them, and the quantizer at the end.

    Attributes:
        name: of the quantizer at the end, or of the output.
        layer: name of the layer with weights, or "" for the input's quantizer.
        head: the moves before the sums.
        sums: the Conv, Gemm or MatMul node; None for the input's quantizer.
        body: the elementwise nodes and moves behind the sums, the quantizer's nodes last.
        levels: of the quantizer; None if the model's output ends the stage.
    """

    name: str = "output"
    layer: str = ""
    head: list[NodeProto] = field(default_factory=list)
    sums: NodeProto | None = None
    body: list[NodeProto] = field(default_factory=list)
    levels: Levels | None = None


class Graph:
    """Constants, shapes and the path of the data through a graph with one input and output."""

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
        self.path = self._path()

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

    def _path(self) -> list[NodeProto]:
        consumers: dict[str, list[NodeProto]] = {}
        for node in self.model.graph.node:
            for name in node.input:
                consumers.setdefault(name, []).append(node)
        path, tensor, last = [], self.input, "the input"
        while tensor != self.output:
            following = consumers.get(tensor, [])
            if len(following) != 1:
                raise ExportError(
                    f"the output of {last} goes to {len(following)} layers: residual and branching "
                    "models cannot be exported to hls4ml, only one layer behind the other"
                )
            (node,) = following
            if sum(name not in self.constants for name in node.input if name) != 1:
                raise ExportError(f"{describe(node)} has more than one computed input")
            path.append(node)
            tensor, last = node.output[0], describe(node)
        return path

    def operands(self, node: NodeProto) -> list[np.ndarray | None]:
        """Constant inputs of a node; None where the data comes in."""
        return [
            self.constants[name].value if name in self.constants else None for name in node.input
        ]


def read_stages(graph: Graph) -> list[Stage]:
    """The layers of a graph in order, the input's quantizer first.

    Raises:
        ExportError: names the first node that does not fit.
    """
    stages, stage = [], Stage()
    for position, node in enumerate(graph.path):
        _check_place(node, stage, is_first=not stages)
        if node.op_type in SUMS:
            stage.sums, stage.layer = node, layer_of(graph, node)
        elif node.op_type in MOVES and stage.sums is None:
            stage.head.append(node)
        else:
            stage.body.append(node)
        if node.op_type in QUANTIZERS:
            stage.name = quantizer_of(node) or node.name
            stage.levels = levels_of(node, graph.operands(node), stage.name)
        elif stage.levels is not None:
            stage.levels = _rescaled(stage.levels, node, graph, stage.name)
        if stage.levels is not None and not _rescales(graph, position):
            stages.append(stage)
            stage = Stage()
    return [*stages, stage] if stage.sums is not None or stage.head else stages


def _check_place(node: NodeProto, stage: Stage, *, is_first: bool) -> None:
    if node.op_type in SUMS:
        if is_first or stage.sums is not None:
            raise ExportError(
                f"{describe(node)} reads values that no quantizer made integers: put a quantizer, "
                "such as QuantIdentity, before it"
            )
    elif node.op_type in MOVES:
        _check_move(node)
    elif not is_elementwise(node):
        advice = ADVICE.get(node.op_type, "only layers one behind the other are supported")
        raise ExportError(f"{describe(node)} cannot be exported to hls4ml exactly: {advice}")
    elif is_first and stage.levels is None and node.op_type not in QUANTIZERS:
        raise ExportError(
            f"{describe(node)} comes before the first quantizer: quantize the input first"
        )
    elif not is_first and stage.sums is None:
        raise ExportError(
            f"{describe(node)} stands between a quantizer and the next layer with weights: "
            "move it behind that layer"
        )


def _rescales(graph: Graph, position: int) -> bool:
    """Whether the next node takes off a MultiThreshold's zero-point, or applies its scale."""
    if position + 1 == len(graph.path):
        return False
    node, following = graph.path[position], graph.path[position + 1]
    if node.op_type not in ("MultiThreshold", "Sub") or following.op_type not in ("Sub", "Mul"):
        return False
    return all(constant is None or constant.size == 1 for constant in graph.operands(following))


def _rescaled(levels: Levels, node: NodeProto, graph: Graph, name: str) -> Levels:
    value = next(float(c.reshape(-1)[0]) for c in graph.operands(node) if c is not None)
    if node.op_type == "Sub":
        return replace(levels, first=levels.first - round(value))
    if not value > 0:
        raise ExportError(f"{name} has a scale that is not positive")
    return replace(levels, scale=levels.scale * value)


def _check_move(node: NodeProto) -> None:
    options = attribute_values(node)
    if node.op_type != "MaxPool":
        return
    if any(options.get("pads", [])) or options.get("ceil_mode", 0):
        raise ExportError(
            f"{describe(node)} has padding or ceil_mode, which hls4ml's pooling lacks: "
            "use padding=0, ceil_mode=False"
        )
    if any(step != 1 for step in options.get("dilations", [])):
        raise ExportError(f"{describe(node)} has a dilation, which hls4ml's pooling lacks")


def layer_of(graph: Graph, node: NodeProto) -> str:
    """Name of the layer whose weight quantizer feeds a node."""
    names = [graph.constants[n].quantizer for n in node.input if n in graph.constants]
    found = next((name for name in names if name), "")
    return found.rpartition(".")[0] or node.name


def quantizer_of(node: NodeProto) -> str:
    """PyTorch name of the quantizer that a node belongs to, or "" """
    return note_of(node, QUANTIZER) or ""


def describe(node: NodeProto) -> str:
    """A node for messages: its type, name and quantizer."""
    quantizer = quantizer_of(node)
    return f"{node.op_type} {node.name}" + (f" of {quantizer}" if quantizer else "")
