"""Exact hls4ml types for every layer of a graph that ``MultiThresholdToQuant`` wrote.

Nothing is guessed: a type is wide enough for every value that can occur, and rounds or saturates
only where the graph has a ``Quant`` node.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper

from ..errors import ExportError
from ..graph_reading import read_constant
from ..integer_types import integer_range
from ..node_attributes import attribute_values
from .reach import reach_of

# hls4ml multiplies and adds C++ types of at most this width in its simulation.
WIDEST = 128
SPARE = "ufixed<1,1>"


@dataclass(frozen=True)
class Span:
    """All multiples of ``2**-fractional`` from ``low`` to ``high`` multiples.

    >>> Span(-8, 7, 2).type
    'fixed<4,2>'
    """

    low: int
    high: int
    fractional: int = 0

    @property
    def type(self) -> str:
        """The narrowest hls4ml type that holds the span."""
        signed = self.low < 0
        width = max(max(self.high, -self.low - 1).bit_length() + signed, 1 + signed)
        if width > WIDEST:
            raise ExportError(f"a value needs {width} bits, more than hls4ml's simulation has")
        return f"{'' if signed else 'u'}fixed<{width},{width - self.fractional}>"

    def at(self, fractional: int) -> Span:
        """The same span in finer units."""
        factor = 1 << (fractional - self.fractional)
        return Span(self.low * factor, self.high * factor, fractional)


def span_of(values: np.ndarray) -> Span:
    """The span of given numbers, in the largest power of two that divides all of them.

    >>> span_of(np.array([0.75, -2.0]))
    Span(low=-8, high=3, fractional=2)
    """
    numbers = [float(value) for value in np.unique(values)]
    fractional = max((_fractional(number) for number in numbers if number), default=0)
    scaled = [math.ldexp(number, fractional) for number in numbers]
    return Span(int(min(scaled)), int(max(scaled)), fractional)


def _fractional(number: float) -> int:
    mantissa, exponent = math.frexp(number)
    integer = int(math.ldexp(mantissa, 53))
    return 53 - exponent - ((integer & -integer).bit_length() - 1)


def layer_precisions(
    model: ModelWrapper, *, wider_input: bool = False
) -> dict[str, dict[str, str]]:
    """hls4ml's ``Precision`` of each layer, by node name; the graph input's under its own name.

    Args:
        model: channels last, in topological order.
        wider_input: give the input a type with one bit more than the quantizer behind it, which
            rounds the same way and saturates later; hls4ml does away with a quantizer whose input
            has its type.

    Raises:
        ExportError: for an operator that the transformations do not write.
    """
    return _Types(model).run(spare_bits=int(wider_input))


class _Types:
    def __init__(self, model: ModelWrapper) -> None:
        self.model = model
        self.spans: dict[str, Span] = {}
        self.found: dict[str, dict[str, str]] = {}

    def run(self, *, spare_bits: int) -> dict[str, dict[str, str]]:
        graph = self.model.graph
        for node in graph.node:
            if node.input[0] == graph.input[0].name:
                # The type of the input rounds and saturates like the quantizer behind it.
                self.found[graph.input[0].name] = {
                    "result": quant_type(self.model, node, spare_bits)
                }
            handler = getattr(self, f"_{node.op_type.lower()}", None)
            if handler is None:
                raise ExportError(f"{node.name} ({node.op_type}) has no exact type in hls4ml")
            handler(node)
        return self.found

    def _quant(self, node: NodeProto) -> None:
        low, high, fractional = _quant_range(self.model, node)
        values = self.model.get_initializer(node.input[0])
        span = Span(low, high, fractional)
        self.spans[node.output[0]] = span
        if values is None:
            self.found[node.name] = {"result": quant_type(self.model, node)}

    def _conv(self, node: NodeProto) -> None:
        # Channels last: the data is (N, H, W, C), the weights (M, kh, kw, C).
        self._sum(node, self._integers(node.input[1]))

    def _matmul(self, node: NodeProto) -> None:
        self._sum(node, self._integers(node.input[1]).T)

    def _sum(self, node: NodeProto, weights: np.ndarray) -> None:
        source = self.spans[node.input[0]]
        span = Span(*reach_of(weights, source.low, source.high), source.fractional)
        self.spans[node.output[0]] = span
        self.found[node.name] = {
            "accum": span.type,
            "result": span.type,
            "weight": self.spans[node.input[1]].type,
            "bias": SPARE,
        }

    def _batchnormalization(self, node: NodeProto) -> None:
        source = self.spans[node.input[0]]
        scale, bias = (read_constant(self.model, name) for name in node.input[1:3])
        of_scale, of_bias = span_of(scale), span_of(bias)
        of_product = source.fractional + of_scale.fractional
        integers = [int(math.ldexp(float(s), of_scale.fractional)) for s in scale.reshape(-1)]
        ends = [integer * end for integer in integers for end in (source.low, source.high)]
        fractional = max(of_product, of_bias.fractional)
        product = Span(min(ends), max(ends), of_product).at(fractional)
        offset = of_bias.at(fractional)
        self._affine(node, Span(product.low + offset.low, product.high + offset.high, fractional))
        self.found[node.name] |= {"scale": of_scale.type, "bias": of_bias.type}

    def _add(self, node: NodeProto) -> None:
        one, other = (self.spans[name] for name in node.input)
        fractional = max(one.fractional, other.fractional)
        a, b = one.at(fractional), other.at(fractional)
        span = self.spans[node.output[0]] = Span(a.low + b.low, a.high + b.high, fractional)
        self.found[node.name] = {"result": span.type}

    def _concat(self, node: NodeProto) -> None:
        one, other = (self.spans[name] for name in node.input)
        fractional = max(one.fractional, other.fractional)
        a, b = one.at(fractional), other.at(fractional)
        span = Span(min(a.low, b.low), max(a.high, b.high), fractional)
        self.spans[node.output[0]] = span
        self.found[node.name] = {"result": span.type}

    def _affine(self, node: NodeProto, span: Span) -> None:
        self.spans[node.output[0]] = span
        following = self.model.find_consumers(node.output[0]) or []
        is_quantized = len(following) == 1 and following[0].op_type == "Quant"
        # hls4ml lets such a layer write the quantizer's type, straight from the exact value.
        self.found[node.name] = {"result": "auto" if is_quantized else span.type}

    def _maxpool(self, node: NodeProto) -> None:
        span = self.spans[node.output[0]] = self.spans[node.input[0]]
        self.found[node.name] = {"accum": span.type, "result": span.type}

    def _pad(self, node: NodeProto) -> None:
        source = self.spans[node.input[0]]
        span = Span(min(source.low, 0), max(source.high, 0), source.fractional)
        self.spans[node.output[0]] = span
        self.found[node.name] = {"result": span.type}

    def _reshape(self, node: NodeProto) -> None:
        span = self.spans[node.output[0]] = self.spans[node.input[0]]
        self.found[node.name] = {"result": span.type}

    _flatten = _transpose = _reshape

    def _integers(self, name: str) -> np.ndarray:
        producer = self.model.find_producer(name)
        source = name if producer is None else producer.input[0]
        return np.rint(read_constant(self.model, source)).astype(np.int64)


def quant_type(model: ModelWrapper, node: NodeProto, spare_bits: int = 0) -> str:
    """hls4ml's type of a Quant node, rounding and saturating as it does.

    Raises:
        ExportError: if the node is no Quant node that hls4ml has a type for.
    """
    low, high, fractional = _quant_range(model, node)
    options = attribute_values(node)
    rounding = {"ROUND": "RND_CONV", "FLOOR": "TRN"}[options["rounding_mode"]]
    saturation = "SAT_SYM" if options["narrow"] else "SAT"
    high = (high + 1 << spare_bits) - 1
    low = -high - 1 if options["signed"] else 0
    exact = Span(low, high, fractional).type
    return exact.replace(">", f",{rounding},{saturation}>")


def _quant_range(model: ModelWrapper, node: NodeProto) -> tuple[int, int, int]:
    if node.op_type != "Quant":
        raise ExportError(f"{node.name} ({node.op_type}) is no Quant node")
    scale, _, bits = (float(read_constant(model, name)) for name in node.input[1:4])
    options = attribute_values(node)
    # hls4ml narrows signed types only.
    narrow = bool(options["signed"] and options["narrow"])
    low, high = integer_range(round(bits), signed=bool(options["signed"]), narrow=narrow)
    return low, high, -round(math.log2(scale))
