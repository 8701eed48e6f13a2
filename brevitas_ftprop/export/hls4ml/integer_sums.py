"""Rewrite a QONNX graph so that every layer adds up integers and compares the sums with thresholds.

Scales, batch norms, biases and quantizers behind a layer become one integer threshold for each
level and channel: the smallest sum at which PyTorch's float32 arithmetic gives that level.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import onnx
from onnx import NodeProto, helper
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ..errors import ExportError
from ..float32 import LARGEST_EXACT
from ..graph_edits import GENERAL
from ..integer_types import integer_type
from ..node_attributes import attribute_values
from ..tags import QUANTIZER
from .elementwise import Levels
from .node_builder import NodeBuilder
from .ordering import ordered
from .reach import reach_of, sum_type
from .stages import Graph, Stage, read_stages
from .sum_chain import SumChain
from .weights import integer_weights

# Thresholds are compared pair by pair.
MOST_LEVELS = 2**12


class IntegerSums(Transformation):
    """Layers on integers: Conv or MatMul with integer weights, then ``MultiThreshold``.

    A threshold counts in units of the layer's inputs, which are the integers of the quantizer
    before it (times the scale of the input's quantizer, a power of two). The tensor of sums is
    annotated with the integers that it can reach; channels that fall with their sums are preceded
    by a multiplication with −1. Behind the last layer its scale and bias are left.

    The graph must be a chain of layers as ``export_qonnx`` writes it.

    Raises:
        ExportError: names the layer that does not fit.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        return ModelWrapper(_Rewriting(Graph(model.model)).run()), False


class _Rewriting:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.stages = read_stages(graph)
        self.built = NodeBuilder(graph.input)
        self.types: dict[str, str] = {}
        self.names: set[str] = set()
        # Of the integers that the last quantizer gives: ends, unit in this graph, scale in PyTorch.
        self.ends, self.unit, self.scale = (0, 0), 1.0, 1.0

    def run(self) -> onnx.ModelProto:
        first, *others = self.stages or [Stage()]
        self._quantize_input(first)
        for stage in others:
            self._layer(stage)
        if self.scale != self.unit:
            # The model ends with a quantizer: its values are integers times the scale.
            self._affine(np.array([self.scale / self.unit]), np.zeros(1))
        if self.built.tensor != self.graph.output:
            self.built.nodes[-1].output[0] = self.graph.output
        source = self.graph.model
        graph = helper.make_graph(
            self.built.nodes,
            "integer_sums",
            list(source.graph.input),
            list(source.graph.output),
            [onnx.numpy_helper.from_array(a, n) for n, a in self.built.constants.items()],
        )
        opsets = [
            *(o for o in source.opset_import if o.domain != GENERAL),
            helper.make_opsetid(GENERAL, 1),
        ]
        model = ModelWrapper(helper.make_model(graph, opset_imports=opsets))
        for tensor, kind in self.types.items():
            model.set_tensor_datatype(tensor, DataType[kind])
        return model.model

    def _quantize_input(self, stage: Stage) -> None:
        levels = stage.levels
        if levels is None or stage.body[-1].op_type not in ("Quant", "IntQuant"):
            raise ExportError(
                "the model does not begin with a quantizer of its input that rounds: put a "
                "QuantIdentity with a power-of-two scale first"
            )
        node = stage.body[-1]
        zero_point = self.graph.operands(node)[2]
        is_plain = not np.any(zero_point) and attribute_values(node)["rounding_mode"] == "ROUND"
        if not is_plain or np.frexp(levels.scale)[0] != 0.5:
            raise ExportError(
                f"{stage.name} quantizes the input with scale {levels.scale:g}, but the type of "
                "hls4ml's input needs a power of two, no zero-point and rounding half to even: "
                "use a FixedPoint quantizer there"
            )
        self._moves(stage.head)
        self._copy(node, self._name(stage.name))
        self.ends, self.unit, self.scale = (levels.first, levels.last), levels.scale, levels.scale

    def _layer(self, stage: Stage) -> None:
        self._moves(stage.head)
        node = stage.sums
        if node is None:
            return
        weights = integer_weights(self.graph, node, stage.layer)
        reach = reach_of(weights.integers, *self.ends)
        if max(-reach[0], reach[1]) >= LARGEST_EXACT:
            raise ExportError(
                f"the sums of {stage.layer} reach from {reach[0]} to {reach[1]}, more than the "
                "2**24 that float32, and so PyTorch, adds up exactly: use fewer bits or inputs"
            )
        self._sums(node, weights.integers, stage)
        order = ordered(self.graph, stage)
        of_sums = SumChain(
            stage.layer,
            [(step, self.graph.operands(step)) for step in order.chain],
            np.float32(self.scale) * weights.scale,
            len(self.graph.shapes[node.output[0]]),
            weights.bias,
        )
        self._moves(order.before)
        self.types[self.built.tensor] = sum_type(*reach, self.unit)
        levels = stage.levels
        if levels is None:
            factor, offset = of_sums.affine()
            self._affine(factor / self.unit, offset)
            self.unit = self.scale = 1.0
            self._moves(order.behind)
            return
        if levels.count >= MOST_LEVELS:
            raise ExportError(
                f"{stage.name} has {levels.count + 1} levels, each with its own threshold: use "
                "bit_width=12 or less"
            )
        direction, thresholds = of_sums.thresholds(levels, *reach)
        if (direction < 0).any():
            shape = (1, -1, *(1,) * (of_sums.rank - 2))
            self.built.add_node(
                "Mul", self._name("direction"), {"factor": direction.reshape(shape)}
            )
        self._threshold(stage.name, levels, thresholds, of_sums.rank)
        start = len(self.built.nodes) - 1
        self._moves(order.behind)
        # Where the pooling has moved behind the thresholds, it gives the quantizer's result.
        giving = self.built.nodes[start:]
        bearer = [giving[0], *(node for node in giving if node.op_type == "MaxPool")][-1]
        bearer.metadata_props.add(key=QUANTIZER, value=stage.name)
        self.ends, self.unit, self.scale = (levels.first, levels.last), 1.0, levels.scale

    def _sums(self, node: NodeProto, weights: np.ndarray, stage: Stage) -> None:
        name = self._name(stage.layer)
        if node.op_type == "Conv":
            if attribute_values(node).get("group", 1) != 1:
                raise ExportError(f"{stage.layer} is a grouped convolution, which is not supported")
            if attribute_values(node).get("auto_pad", "NOTSET") != "NOTSET":
                raise ExportError(f"{stage.layer} has automatic padding: give numbers")
            kind, options = "Conv", list(node.attribute)
        else:
            kind, options, weights = "MatMul", [], weights.T
        quantized = self._quantized(weights, f"{name}_weight")
        sums = helper.make_node(kind, [self.built.tensor, quantized], [f"{name}_sums"], name)
        sums.attribute.extend(options)
        self.built.append(sums)

    def _quantized(self, weights: np.ndarray, name: str) -> str:
        """The tensor of a layer's weights, in as many bits as they need."""
        largest = max(int(weights.max(initial=0)), -int(weights.min(initial=0)), 1)
        integers = self.built.add_constant(f"{name}_integers", weights.astype(np.float32))
        branch = replace(self.built, tensor=integers)
        bits = largest.bit_length() + 1
        branch.quant(f"{name}_quant", bits, signed=True, narrow=True, rounding="ROUND")
        return branch.tensor

    def _threshold(self, quantizer: str, levels: Levels, thresholds: np.ndarray, rank: int) -> None:
        kind = integer_type(min(levels.first, 0), max(levels.last, 0))
        self.built.add_node(
            "MultiThreshold",
            self._name(quantizer),
            {"thresholds": thresholds * self.unit},
            domain=GENERAL,
            out_dtype=kind,
            out_bias=float(levels.first),
            out_scale=float(levels.step),
            data_layout="NCHW" if rank == 4 else "NC",
        )
        self.types[self.built.tensor] = kind

    def _affine(self, factor: np.ndarray, offset: np.ndarray) -> None:
        """Scale and bias of the model's output."""
        if (factor == 1).all() and not offset.any():
            return
        channels = self.graph.shapes[self.graph.output][1]
        factor, offset = (np.broadcast_to(value, channels) for value in (factor, offset))
        self.built.affine(self._name("output"), factor, offset)

    def _moves(self, nodes: list[NodeProto]) -> None:
        for node in nodes:
            self._copy(node, self._name(node.name))

    def _copy(self, node: NodeProto, name: str) -> None:
        """A node of the graph that reads the last one's tensor, and its own constants."""
        copied = NodeProto()
        copied.CopyFrom(node)
        copied.name, copied.input[0], copied.output[0] = name, self.built.tensor, f"{name}_out"
        for constant in node.input[1:]:
            self.built.add_constant(constant, self.graph.constants[constant].value)
        self.built.append(copied)

    def _name(self, name: str) -> str:
        """A name that is a C++ identifier, used once."""
        plain = re.sub(r"\W", "_", re.sub(r"\.(act_quant|output_quant)$", "", name), flags=re.ASCII)
        plain = plain if plain[:1].isalpha() else f"layer_{plain}"
        unique, count = plain, 1
        while unique in self.names:
            unique, count = f"{plain}_{count}", count + 1
        self.names.add(unique)
        return unique
