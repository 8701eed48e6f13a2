"""Rewrite a QONNX graph so that every layer adds up integers and compares the sums with thresholds.

Scales, batch norms, biases and quantizers behind a layer become one integer threshold for each
level and channel: the smallest sum at which PyTorch's float32 arithmetic gives that level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ..errors import ExportError
from ..graph_edits import GENERAL
from ..node_attributes import attribute_values, integers_in, is_padded
from .elementwise import QUANTIZERS, Levels, is_elementwise, levels_of, rescaled
from .exported_graph import Graph, layer_of, quantizer_of
from .integer_layers import LayerWriter, keep_notes
from .integers import Integers, Pending, RefusedNodeError
from .ordering import MOVES, ordered
from .sum_chain import SumChain
from .weights import integer_weights

SUMS = ("Conv", "Gemm", "MatMul")
READS = {"unquantized-input": "reads", "float-average": "averages", "float-sum": "adds"}
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
        return ModelWrapper(rewriting.written()), False


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

    def written(self) -> onnx.ModelProto:
        """The graph, if nothing was refused."""
        last, output = self._output(), self.graph.output
        built, source = self.writer.built, self.graph.model
        for node in built.nodes:
            for names in (node.input, node.output):
                names[:] = [output if name == last else name for name in names]
        graph = helper.make_graph(
            built.nodes,
            "integer_sums",
            [helper.make_tensor_value_info(self.graph.input, TensorProto.FLOAT, self.input_shape)],
            list(source.graph.output),
            [onnx.numpy_helper.from_array(a, n) for n, a in built.constants.items()],
        )
        opsets = [
            *(o for o in source.opset_import if o.domain != GENERAL),
            helper.make_opsetid(GENERAL, 1),
        ]
        model = ModelWrapper(helper.make_model(graph, opset_imports=opsets))
        for tensor, kind in self.writer.types.items():
            model.set_tensor_datatype(output if tensor == last else tensor, DataType[kind])
        return model.model

    def _tensor(self, node: NodeProto, entries: Sequence[Pending]) -> Pending:
        kind = node.op_type
        if len(entries) > 1:
            return Pending(self._sum(node, entries))
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
            self._refuse(node, "unknown-operator", f"({kind}) has no exact form in fixed point")
        return entry.then(node)

    def _refuse(self, node: NodeProto, requirement: str, message: str) -> NoReturn:
        raise RefusedNodeError(node, message, requirement, name=layer_of(self.graph, node))

    def _layer(self, node: NodeProto, entry: Pending) -> Integers:
        layer = layer_of(self.graph, node)
        weights = integer_weights(self.graph, node, layer)
        source = self._integers(node, entry, "unquantized-input")
        if node.op_type == "Conv":
            self._check_conv(node)
        elif len(source.shape) != 2:
            self._refuse(node, "dimensions", f"reads {len(source.shape)} dimensions, not (N, C)")
        if not source.is_uniform:
            what = f"reads the result of {source.name}, which is not quantized"
            self._refuse(node, "unquantized-input", what)
        return self.writer.sums(source, weights, node, self._shape(node), layer)

    def _check_conv(self, node: NodeProto) -> None:
        before, after = (self.graph.shapes[name] for name in (node.input[0], node.output[0]))
        if len(before) != 4:
            self._refuse(node, "dimensions", f"has {len(before) - 2} spatial dimensions, not 2")
        group = integers_in(node, "group", [1])[0]
        if group != 1 and not group == before[1] == after[1]:
            self._refuse(
                node, "groups", f"has {group} groups for {before[1]} → {after[1]} channels"
            )
        if attribute_values(node).get("auto_pad", "NOTSET") != "NOTSET":
            self._refuse(node, "exact-form", "has automatic padding: give numbers")

    def _average(self, node: NodeProto, entry: Pending) -> Integers:
        source = self._integers(node, entry, "float-average")
        size, shape = list(source.shape[2:]), self._shape(node)
        if len(source.shape) != 4:
            self._refuse(node, "average-pool", "is no average over height and width")
        kernel, strides, pads = size, size, [0] * 4
        if node.op_type == "AveragePool":
            kernel = integers_in(node, "kernel_shape", [])
            strides = integers_in(node, "strides", [1, 1])
            pads = integers_in(node, "pads", [0] * 4)
            counts = integers_in(node, "count_include_pad", [0])[0] and source.bias is None
            if is_padded(node) and not counts:
                self._refuse(node, "average-pool", "has padding that it does not count")
        elif math.prod(shape) != math.prod(source.shape[:2]):
            self._refuse(node, "average-pool", "is no average over height and width")
        ends = [size[i] + pads[i] + pads[i + 2] for i in (0, 1)]
        floor = [(end - k) // s + 1 for end, k, s in zip(ends, kernel, strides, strict=True)]
        if node.op_type == "AveragePool" and floor != list(shape[2:]):
            self._refuse(node, "average-pool", "has ceil_mode, and windows that are cut")
        layer, map_shape = layer_of(self.graph, node), (*source.shape[:2], *floor)
        sums = self.writer.window_sums(
            source, node, map_shape, layer, kernel=kernel, strides=strides, pads=pads
        )
        return sums if len(shape) == 4 else self.writer.flatten(sums, shape, f"{layer}_flat")

    def _sum(self, node: NodeProto, entries: Sequence[Pending]) -> Integers:
        layer = layer_of(self.graph, node)
        if node.op_type != "Add":
            self._refuse(node, "branches", "joins two branches")
        one, other = (self._integers(node, entry, "float-sum") for entry in entries)
        if one.shape != other.shape:
            self._refuse(node, "branches", f"adds shapes {one.shape} and {other.shape}")
        return self.writer.joined(one, other, node, layer)

    def _move(self, node: NodeProto, entry: Pending) -> Pending:
        """At once, where nothing is pending that might be brought before it."""
        source = entry.integers
        if source is None or entry.chain or (node.op_type != "MaxPool" and not source.is_uniform):
            return entry.then(node)
        return Pending(self._moved(node, source))

    def _moved(self, node: NodeProto, source: Integers) -> Integers:
        shape = self._shape(node)
        if node.op_type == "MaxPool":
            if len(source.shape) != 4:
                self._refuse(node, "dimensions", "has other than 2 spatial dimensions")
            return self.writer.max_pool(source, node, shape)
        if len(shape) != 2 or shape[0] != source.shape[0]:
            self._refuse(node, "exact-form", f"gives {shape}: only flattening to (N, C) is known")
        return self.writer.flatten(source, shape, node.name)

    def _quantizer(self, node: NodeProto, entry: Pending) -> Integers:
        name = quantizer_of(node) or node.name
        levels, tail = self._levels(node, name)
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
        return self.writer.thresholds(source, levels, direction, thresholds, name)

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
        if self.writer.built.nodes:
            self._refuse(node, "exact-form", "is a second quantizer of the input: share the first")
        scale = np.array([levels.scale], np.float32)
        first, last = levels.first, levels.last
        given = Integers("", self.input_shape, first, last, scale, name, quantizer=name)
        if _is_type_of_images(node, self.graph.operands(node), levels) and all(
            before.op_type in MOVES for before in entry.chain
        ):
            constants = {n: self.graph.constants[n].value for n in node.input[1:]}
            return self.writer.input_quantizer(node, constants, levels, given), entry.chain
        # What is computed of the image before these integers is no fixed-point number.
        self.input_shape = self.graph.shapes[self.graph.computed_inputs(node)[0]]
        return self.writer.input_integers(replace(given, shape=self.input_shape)), ()

    def _levels(self, node: NodeProto, name: str) -> tuple[Levels, list[NodeProto]]:
        """A quantizer's levels, and the nodes that take off its zero-point and apply its scale."""
        levels, tail, last = levels_of(node, self.graph.operands(node), name), [], node
        while last.op_type in ("MultiThreshold", "Sub"):
            readers = self.graph.readers(last.output[0])
            if len(readers) != 1 or readers[0].op_type not in ("Sub", "Mul"):
                break
            operands = self.graph.operands(readers[0])
            if any(operand is not None and operand.size > 1 for operand in operands):
                break
            (last,) = readers
            tail.append(last)
            levels = rescaled(levels, last, operands, name)
        # Known before they are met.
        self.tensors.update(dict.fromkeys((each.output[0] for each in tail), None))
        return levels, tail

    def _integers(self, node: NodeProto, entry: Pending, requirement: str) -> Integers:
        """The integers that a node reads, behind constant factors.

        Raises:
            RefusedNodeError: if they are none.
        """
        source, reads = entry.integers, READS[requirement]
        if source is None:
            self._refuse(node, requirement, f"{reads} the image, which is not quantized")
        for step in entry.chain:
            if step.op_type in MOVES:
                source = self._moved(step, source)
                continue
            factor = _factor(step, self.graph.operands(step))
            if not factor:
                what = f"{reads} the result of {layer_of(self.graph, step)}, which is not quantized"
                self._refuse(node, requirement, what)
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


def _is_type_of_images(
    node: NodeProto, operands: Sequence[np.ndarray | None], levels: Levels
) -> bool:
    """Whether a fixed-point type rounds and saturates as a quantizer does."""
    if node.op_type not in ("Quant", "IntQuant") or np.frexp(levels.scale)[0] != 0.5:
        return False
    return not np.any(operands[2]) and attribute_values(node)["rounding_mode"] == "ROUND"


def _factor(node: NodeProto, operands: Sequence[np.ndarray | None]) -> float:
    """The positive number that a node multiplies with; 0 where it does something else."""
    constant = next((operand for operand in operands if operand is not None), None)
    if constant is None or constant.size != 1:
        return 0.0
    value = float(constant.reshape(-1)[0])
    if node.op_type == "Div" and operands[0] is None and value > 0:
        return 1 / value
    return max(value, 0.0) if node.op_type == "Mul" else 0.0
