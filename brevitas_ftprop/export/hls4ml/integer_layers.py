"""Write layers that read and give integers, one node behind the other."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper

from ..float32 import LARGEST_EXACT
from ..graph_edits import GENERAL
from ..integer_types import integer_type
from ..node_attributes import integers_in
from ..tags import CALL, QUANTIZER
from .elementwise import Levels
from .integers import Integers, RefusedNodeError
from .node_builder import NodeBuilder
from .node_forms import Windows
from .reach import MOVED, REACH, reach_of, sum_type
from .weights import IntegerWeights

# On the first node, where the graph takes its quantizer's integers and no image.
ENTERS = "brevitas_ftprop.integers_enter"


class LayerWriter:
    """The graph that is written.

    Attributes:
        built: its nodes and constants.
        types: QONNX's datatypes of its tensors of integers.
    """

    def __init__(self, tensor: str) -> None:
        self.built = NodeBuilder(tensor)
        self.types: dict[str, str] = {}
        # hls4ml keeps this one for itself.
        self._names = {"input"}

    def name(self, name: str) -> str:
        """A name that is a C++ identifier, used once."""
        plain = re.sub(r"\W", "_", re.sub(r"\.(act_quant|output_quant)$", "", name), flags=re.ASCII)
        plain = plain if plain[:1].isalpha() else f"layer_{plain}"
        unique, count = plain, 1
        while unique in self._names:
            unique, count = f"{plain}_{count}", count + 1
        self._names.add(unique)
        return unique

    def input_quantizer(
        self, node: NodeProto, constants: dict[str, np.ndarray], levels: Levels, given: Integers
    ) -> Integers:
        """The quantizer of the graph's input, as it is; ``given`` with its tensor."""
        copied = NodeProto()
        copied.CopyFrom(node)
        del copied.metadata_props[:]
        copied.name = self.name(given.name)
        copied.input[0], copied.output[0] = self.built.tensor, f"{copied.name}_out"
        for tensor, value in constants.items():
            self.built.add_constant(tensor, value)
        self.built.append(copied)
        return self.noted(replace(given, unit=levels.scale))

    def input_integers(self, given: Integers) -> Integers:
        """The integers of the first quantizer, which something else has computed."""
        bits = DataType[integer_type(given.low, given.high)].bitwidth()
        signed = given.low < 0
        name = self.name(given.name)
        self.built.quant(name, bits, signed=signed, narrow=False, rounding="ROUND")
        self.built.nodes[-1].metadata_props.add(key=ENTERS, value="")
        return self.noted(given)

    def sums(
        self,
        source: Integers,
        weights: IntegerWeights,
        node: NodeProto,
        shape: tuple[int, ...],
        layer: str,
    ) -> Integers:
        """A convolution or matrix product with integer weights.

        Raises:
            RefusedNodeError: if PyTorch could not add up these sums exactly.
        """
        low, high = reach_of(weights.integers, source.low, source.high)
        if max(-low, high) >= LARGEST_EXACT:
            raise RefusedNodeError(
                node,
                f"has sums from {low} to {high}, more than the 2**24 that float32, and so "
                "PyTorch, adds up exactly: use fewer bits or inputs",
                name=layer,
            )
        name, of_conv = self.name(layer), node.op_type == "Conv"
        values = weights.integers if of_conv else weights.integers.T
        self.built.tensor = source.tensor
        quantized = self._quantized(values, f"{name}_weight")
        kind = "Conv" if of_conv else "MatMul"
        written = helper.make_node(kind, [source.tensor, quantized], [f"{name}_sums"], name)
        written.attribute.extend(node.attribute if of_conv else [])
        self.built.append(written)
        scale = (source.scale * weights.scale).astype(np.float32)
        return self.noted(Integers("", shape, low, high, scale, layer, source.unit, weights.bias))

    def window_sums(
        self,
        source: Integers,
        node: NodeProto,
        windows: Windows,
        layer: str,
    ) -> Integers:
        """The sum over each window, of which PyTorch has the mean: a depthwise layer of ones.

        hls4ml's own average pools divide, and drop what is left over.
        """
        channels, count = source.shape[1], math.prod(windows.kernel)
        ones = np.ones((channels, 1, *windows.kernel), dtype=np.int64)
        weights = IntegerWeights(ones, np.full(channels, 1 / count, np.float32), source.bias)
        options = {"group": channels, "dilations": [1, 1], "kernel_shape": windows.kernel}
        options |= {"strides": windows.strides, "pads": windows.pads}
        conv = helper.make_node("Conv", [""], [""], node.name, **options)
        found = self.sums(source, weights, conv, (*source.shape[:2], *windows.size), layer)
        # Rounded once, as a mean is.
        return replace(found, scale=(source.scale.astype(np.float64) / count).astype(np.float32))

    def max_pool(self, source: Integers, node: NodeProto, shape: tuple[int, ...]) -> Integers:
        """A max pool; where it is padded, of integers from 0 on, among which a 0 is never missed.

        Raises:
            RefusedNodeError: for a dilation.
        """
        if any(step != 1 for step in integers_in(node, "dilations", [])):
            raise RefusedNodeError(node, "has a dilation", "pool-form")
        kernel = integers_in(node, "kernel_shape", [])
        strides = integers_in(node, "strides", [1, 1])
        before = integers_in(node, "pads", [0] * 4)[:2]
        needed = zip(shape[2:], strides, kernel, source.shape[2:], before, strict=True)
        # What ceil_mode adds is padding too.
        behind = [max((n - 1) * step + k - size - pad, 0) for n, step, k, size, pad in needed]
        self.built.tensor, name = source.tensor, self.name(node.name)
        is_padded = any((*before, *behind))
        lift = -min(source.low, 0) * source.unit if is_padded else 0
        if lift:
            self.scaled(f"{name}_lifted", source, offset=lift)
        if is_padded:
            self._pad(name, [0, 0, *before, 0, 0, *behind])
        options = {"kernel_shape": kernel, "strides": strides, "pads": [0] * 4}
        self.built.add_node("MaxPool", name, {}, **options)
        if lift:
            self.scaled(f"{name}_lowered", source, offset=-lift)
        return self.noted(replace(source, shape=shape))

    def flatten(self, source: Integers, shape: tuple[int, ...], name: str) -> Integers:
        """All features of an image in one row."""
        self.built.tensor = source.tensor
        self.built.add_node("Flatten", self.name(name), {}, axis=1)
        pixels = shape[1] // source.shape[1]
        scale = source.scale if source.scale.size == 1 else np.repeat(source.scale, pixels)
        bias = None if source.bias is None else np.repeat(source.bias, pixels)
        return self.noted(replace(source, shape=shape, scale=scale, bias=bias))

    def thresholds(
        self,
        source: Integers,
        levels: Levels,
        direction: np.ndarray,
        thresholds: np.ndarray,
        exact: np.ndarray,
        quantizer: str,
    ) -> Integers:
        """A quantizer that compares integers, in the direction of each channel.

        It notes where exact arithmetic has other thresholds than PyTorch.
        """
        self.built.tensor, rank = source.tensor, len(source.shape)
        if (direction < 0).any():
            shape = (1, -1, *(1,) * (rank - 2))
            self.built.add_node("Mul", self.name("direction"), {"factor": direction.reshape(shape)})
        kind = integer_type(min(levels.first, 0), max(levels.last, 0))
        self.built.add_node(
            "MultiThreshold",
            self.name(quantizer),
            {"thresholds": thresholds * source.unit},
            domain=GENERAL,
            out_dtype=kind,
            out_bias=float(levels.first),
            out_scale=float(levels.step),
            data_layout="NCHW" if rank == 4 else "NC",
        )
        reach = f"{source.low} {source.high} {source.unit}"
        self.built.nodes[-1].metadata_props.add(key=REACH, value=reach)
        moved = [
            [*map(int, at), float(exact[tuple(at)])] for at in np.argwhere(exact != thresholds)
        ]
        self.built.nodes[-1].metadata_props.add(key=MOVED, value=json.dumps(moved))
        self.types[self.built.tensor] = kind
        scale = np.array([levels.scale], np.float32)
        first, last = levels.first, levels.last
        return Integers(
            self.built.tensor, source.shape, first, last, scale, quantizer, quantizer=quantizer
        )

    def graph(self, like: ModelProto, input_shape: Sequence[int], last: str) -> ModelWrapper:
        """The graph so far.

        Args:
            like: another graph, whose input, output and versions of operators it has.
            input_shape: of its input.
            last: the tensor that is its output.
        """
        (entering,), (leaving,) = like.graph.input, like.graph.output
        for node in self.built.nodes:
            for names in (node.input, node.output):
                names[:] = [leaving.name if name == last else name for name in names]
        graph = helper.make_graph(
            self.built.nodes,
            "integer_sums",
            [helper.make_tensor_value_info(entering.name, TensorProto.FLOAT, input_shape)],
            [leaving],
            [numpy_helper.from_array(a, n) for n, a in self.built.constants.items()],
        )
        opsets = [o for o in like.opset_import if o.domain != GENERAL]
        opsets.append(helper.make_opsetid(GENERAL, 1))
        model = ModelWrapper(helper.make_model(graph, opset_imports=opsets))
        for tensor, kind in self.types.items():
            model.set_tensor_datatype(leaving.name if tensor == last else tensor, DataType[kind])
        return model

    def affine(self, source: Integers, factor: np.ndarray, offset: np.ndarray) -> Integers:
        """What PyTorch has, of which the integers were counted in units: ``factor·x + offset``."""
        self.built.tensor = source.tensor
        if (factor != 1).any() or offset.any():
            self.scaled(self.name("output"), source, factor=factor, offset=offset)
        return replace(source, tensor=self.built.tensor)

    def scaled(
        self, name: str, source: Integers, *, factor: ArrayLike = 1.0, offset: ArrayLike = 0.0
    ) -> None:
        """Write ``factor·x + offset`` of the last tensor, with numbers for each channel or all."""
        channels = source.shape[1]
        self.built.affine(
            name, np.broadcast_to(factor, channels), np.broadcast_to(offset, channels)
        )

    def noted(self, given: Integers) -> Integers:
        """Integers that the last node gives; their type is noted."""
        tensor = self.built.tensor
        self.types.setdefault(tensor, sum_type(given.low, given.high, given.unit))
        return replace(given, tensor=tensor)

    def _pad(self, name: str, pads: list[int]) -> None:
        constant = self.built.add_constant(f"{name}_pads", np.array(pads, dtype=np.int64))
        inputs = [self.built.tensor, constant]
        self.built.append(helper.make_node("Pad", inputs, [f"{name}_padded"], f"{name}_pad"))

    def _quantized(self, weights: np.ndarray, name: str) -> str:
        """The tensor of a layer's weights, in as many bits as they need."""
        largest = max(int(weights.max(initial=0)), -int(weights.min(initial=0)), 1)
        integers = self.built.add_constant(f"{name}_integers", weights.astype(np.float32))
        branch = replace(self.built, tensor=integers)
        bits = largest.bit_length() + 1
        branch.quant(f"{name}_quant", bits, signed=True, narrow=True, rounding="ROUND")
        return branch.tensor


def keep_notes(quantizer: NodeProto, bearer: NodeProto) -> None:
    """Say that a node gives the integers of a quantizer's node."""
    for entry in quantizer.metadata_props:
        if entry.key in (QUANTIZER, CALL):
            bearer.metadata_props.add(key=entry.key, value=entry.value)
