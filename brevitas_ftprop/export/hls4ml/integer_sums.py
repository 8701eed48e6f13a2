"""Rewrite a QONNX graph so that every layer adds up integers and compares the sums with thresholds.

Scales, batch norms, biases and quantizers behind a layer become one integer threshold for each
level and channel: the smallest sum at which PyTorch's float32 arithmetic gives that level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ..errors import ExportError
from .branches import added, concatenated
from .elementwise import QUANTIZERS, Levels, is_elementwise
from .exported_graph import Graph, layer_of, quantizer_of
from .integer_layers import LayerWriter, keep_notes
from .integers import Integers, Pending, RefusedNodeError
from .node_forms import (
    check_channels,
    check_conv,
    check_dimensions,
    check_scales,
    check_truncation,
    factor_of,
    is_type_of_images,
    quantizer_levels,
    refuse,
    windows_of,
)
from .ordering import MOVES, ordered
from .sum_chain import SumChain
from .weights import integer_weights, undilated

SUMS = ("Conv", "Gemm", "MatMul")
READS = {
    "unquantized-input": "reads",
    "float-average": "averages",
    "float-join": "joins",
    "float-sum": "adds",
}
AVERAGES = ("AveragePool", "GlobalAveragePool", "ReduceMean")
# Thresholds are compared pair by pair.
MOST_LEVELS = 2**12


class IntegerSums(Transformation):
    """Layers on integers: Conv or MatMul with integer weights, then ``MultiThreshold``.

    A threshold counts in units of the layer's inputs, which are the integers of the quantizer
    before it. The input's quantizer stays where it is a fixed-point type's: it rounds half to even,
    without zero-point, to multiples of a power of two, and nothing but pools and flattenings stands
    before it; then a unit is its scale. Otherwise the graph takes that quantizer's integers.

    The tensor of sums is annotated with the integers that it can reach; channels that fall with
    their sums are preceded by a multiplication with −1. Two tensors of integers whose scales are
    multiples are added as integers, and averages are sums. Behind the last layer its scale and bias
    are left.

    Raises:
        RefusedNodeError: names the layer that does not fit.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        rewriting = _Rewriting(Graph(model.model))
        rewriting.read()
        for refusal in rewriting.refused:
            raise refusal
        return rewriting.written(), False


def refused_nodes(model: ModelWrapper) -> list[RefusedNodeError]:
    """All places at which ``IntegerSums`` would stop that do not follow from another one.

    Raises:
        ExportError: if the graph has several inputs or outputs.
    """
    rewriting = _Rewriting(Graph(model.model))
    rewriting.read()
    return rewriting.refused


class _Rewriting:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.writer = LayerWriter(graph.input)
        self.input_shape = graph.shapes[graph.input]
        # None for what could not be rewritten, and all that depends on it.
        self.tensors: dict[str, Pending | None] = {graph.input: Pending(None)}
        self.refused: list[RefusedNodeError] = []

    def read(self) -> None:
        """Write layers in the order of the nodes, and list the nodes that are refused."""
        for node in self.graph.nodes:
            # A quantizer of several nodes is read at its first one.
            if node.output[0] in self.tensors:
                continue
            result = None
            entries = [self.tensors[name] for name in self.graph.computed_inputs(node)]
            known = [entry for entry in entries if entry is not None]
            try:
                if len(known) == len(entries):
                    result = self._tensor(node, known)
            except RefusedNodeError as error:
                self.refused.append(error)
            except ExportError as error:
                self.refused.append(RefusedNodeError(node, f"has no exact form: {error}"))
            self.tensors[node.output[0]] = result

    def written(self) -> ModelWrapper:
        """The graph, if nothing was refused."""
        last = self._output()
        return self.writer.graph(self.graph.model, self.input_shape, last)

    def _tensor(self, node: NodeProto, entries: Sequence[Pending]) -> Pending:
        kind = node.op_type
        if len(entries) > 1:
            return Pending(self._joined(node, entries))
        (entry,) = entries
        if kind in SUMS:
            return Pending(self._layer(node, entry))
        if kind in AVERAGES:
            return Pending(self._average(node, entry))
        if kind in QUANTIZERS:
            return Pending(self._quantizer(node, entry))
        if kind in MOVES:
            return self._move(node, entry)
        if not is_elementwise(node):
            refuse(self.graph, node, "unknown-operator", f"({kind}) has no exact form")
        return entry.then(node)

    def _layer(self, node: NodeProto, entry: Pending) -> Integers:
        layer = layer_of(self.graph, node)
        weights = integer_weights(self.graph, node, layer)
        source = self._integers(node, entry, "unquantized-input")
        if node.op_type == "Conv":
            check_conv(self.graph, node)
            node, weights = undilated(node, weights)
        elif len(source.shape) != 2:
            refuse(self.graph, node, "dimensions", f"reads {source.shape}, and not (N, C)")
        check_scales(self.graph, node, source)
        if source.is_uniform:
            source = replace(source, scale=source.scale[:1])
        return self.writer.sums(source, weights, node, self._shape(node), layer)

    def _average(self, node: NodeProto, entry: Pending) -> Integers:
        source = self._integers(node, entry, "float-average")
        windows, layer = windows_of(self.graph, node, source), layer_of(self.graph, node)
        sums, shape = self.writer.window_sums(source, node, windows, layer), self._shape(node)
        return sums if len(shape) == 4 else self.writer.flatten(sums, shape, f"{layer}_flat")

    def _joined(self, node: NodeProto, entries: Sequence[Pending]) -> Integers:
        layer = layer_of(self.graph, node)
        if node.op_type == "Concat":
            check_channels(self.graph, node)
            parts = [self._integers(node, entry, "float-join") for entry in entries]
            return concatenated(self.writer, parts, self._shape(node), layer)
        if node.op_type != "Add":
            refuse(self.graph, node, "branches", "joins two branches")
        one, other = (self._integers(node, entry, "float-sum") for entry in entries)
        if one.shape != other.shape:
            refuse(self.graph, node, "branches", f"adds shapes {one.shape} and {other.shape}")
        return added(self.writer, one, other, node, layer)

    def _move(self, node: NodeProto, entry: Pending) -> Pending:
        """At once, where nothing is pending that might be brought before it."""
        source = entry.integers
        if source is None or entry.chain or (node.op_type != "MaxPool" and not source.is_uniform):
            return entry.then(node)
        return Pending(self._moved(node, source))

    def _moved(self, node: NodeProto, source: Integers) -> Integers:
        shape = self._shape(node)
        if node.op_type == "MaxPool":
            check_dimensions(self.graph, node)
            return self.writer.max_pool(source, node, shape)
        if len(shape) != 2 or shape[0] != source.shape[0]:
            refuse(self.graph, node, "exact-form", f"gives {shape}: flatten to (N, C)")
        return self.writer.flatten(source, shape, node.name)

    def _quantizer(self, node: NodeProto, entry: Pending) -> Integers:
        name = quantizer_of(node) or layer_of(self.graph, node)
        if node.op_type == "Trunc":
            check_truncation(self.graph, node)
        levels, tail = quantizer_levels(self.graph, node, name)
        # Known before they are met.
        self.tensors.update(dict.fromkeys((each.output[0] for each in tail), None))
        if entry.integers is None:
            result, moves = self._input_quantizer(node, entry, levels, name)
        else:
            source = entry.integers
            chain, moves = ordered(self.graph, (*entry.chain, node, *tail), source.name)
            result = self._thresholds(source, chain, levels, name)
        # Where the pooling moves behind the thresholds, it gives the quantizer's result.
        bearer = self.writer.built.nodes[-1]
        for move in moves:
            result = self._moved(move, result)
            if move.op_type == "MaxPool":
                bearer = self.writer.built.nodes[-1]
        keep_notes(node, bearer)
        for each in tail[-1:]:
            self.tensors[each.output[0]] = Pending(result)
        return result

    def _thresholds(
        self, source: Integers, chain: Sequence[NodeProto], levels: Levels, name: str
    ) -> Integers:
        if levels.count >= MOST_LEVELS:
            raise ExportError(
                f"{name} has {levels.count + 1} levels, each with its own threshold: use "
                "bit_width=12 or less"
            )
        of_sums = self._chain(source, chain)
        direction, thresholds = of_sums.thresholds(levels, source.low, source.high)
        _, exact = of_sums.thresholds(levels, source.low, source.high, exact=True)
        return self.writer.thresholds(source, levels, direction, thresholds, exact, name)

    def _chain(self, source: Integers, chain: Sequence[NodeProto]) -> SumChain:
        return SumChain(
            source.name,
            [(step, self.graph.operands(step)) for step in chain],
            np.broadcast_to(source.scale, source.shape[1]),
            len(source.shape),
            source.bias,
        )

    def _input_quantizer(
        self, node: NodeProto, entry: Pending, levels: Levels, name: str
    ) -> tuple[Integers, Sequence[NodeProto]]:
        """The first integers, and the moves that have yet to follow."""
        if node.op_type == "Trunc":
            refuse(self.graph, node, "truncation", "truncates the image, which is not quantized")
        if self.writer.built.nodes:
            refuse(
                self.graph,
                node,
                "exact-form",
                "is a second quantizer of the input: share the first",
            )
        scale = np.array([levels.scale], np.float32)
        first, last = levels.first, levels.last
        given = Integers("", self.input_shape, first, last, scale, name, quantizer=name)
        if is_type_of_images(self.graph, node, levels) and all(
            before.op_type in MOVES for before in entry.chain
        ):
            constants = {n: self.graph.constants[n].value for n in node.input[1:]}
            return self.writer.input_quantizer(node, constants, levels, given), entry.chain
        # What is computed of the image before these integers is no fixed-point number.
        self.input_shape = self.graph.shapes[self.graph.computed_inputs(node)[0]]
        return self.writer.input_integers(replace(given, shape=self.input_shape)), ()

    def _integers(self, node: NodeProto, entry: Pending, requirement: str) -> Integers:
        """The integers that a node reads, behind constant factors.

        Raises:
            RefusedNodeError: if they are none.
        """
        source, reads = entry.integers, READS[requirement]
        if source is None:
            refuse(self.graph, node, requirement, f"{reads} the image, which is not quantized")
        for step in entry.chain:
            if step.op_type in MOVES:
                source = self._moved(step, source)
                continue
            factor = factor_of(self.graph, step)
            if not factor:
                what = f"{reads} the result of {layer_of(self.graph, step)}, which is not quantized"
                refuse(self.graph, node, requirement, what)
            bias = None if source.bias is None else source.bias * np.float32(factor)
            scale = (source.scale * factor).astype(np.float32)
            source = replace(source, scale=scale, bias=bias)
        return source

    def _shape(self, node: NodeProto) -> tuple[int, ...]:
        return self.graph.shapes[node.output[0]]

    def _output(self) -> str:
        """The tensor that the model gives; its scale and bias are applied."""
        entry = self.tensors[self.graph.output]
        if entry is None or entry.integers is None:
            raise ExportError("the model quantizes nothing: put a QuantIdentity first")
        source = entry.integers
        chain, moves = ordered(self.graph, entry.chain, source.name)
        factor, offset = self._chain(source, chain).affine()
        result = self.writer.affine(source, factor / source.unit, offset)
        for move in moves:
            result = self._moved(move, result)
        return result.tensor
