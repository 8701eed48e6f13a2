"""Rewrite integer thresholds as an affine function and saturating ``Quant`` nodes."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto
from qonnx.core.datatype import FixedPointType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation
from qonnx.transformation.infer_shapes import InferShapes

from ..errors import ExportError
from ..graph_edits import replace
from ..graph_reading import read_constant, shape_of
from ..node_attributes import attribute_values, note_of
from .affine_steps import ROUND, affine_steps
from .node_builder import NodeBuilder
from .reach import MOVED, REACH, SUMS


class MultiThresholdToQuant(Transformation):
    """``MultiThreshold`` on an annotated integer tensor → ``BatchNormalization`` and ``Quant``.

    hls4ml knows no thresholds, but types that round down and saturate. With ``v = a·s + b``, a and
    b of as few fractional bits as the thresholds allow (see ``affine_steps``):

    ==================  =============================================================
    levels              nodes
    ==================  =============================================================
    all of b bits       Quant of v to b bits, saturating
    −1 and 1            v = 2·(s − t) + 1 is odd: Quant to 2 bits, saturating to ±1
    0 … n, as n = 5     Quant of v + e to b bits, minus e, Quant to b bits: the first
                        saturates at n, the second at 0; e = 2**b − 1 − n
    ==================  =============================================================

    The rounding is FLOOR, or ROUND (half to even) where inputs meet the ties of a quantizer that
    rounds.

    A constant ±1 factor in front is taken in. The node's input must be annotated with an integer or
    fixed-point type that holds every value that occurs, unless the node notes their ends
    (``REACH``); without slack the result is the same for all of them.

    Args:
        slack: by how many units thresholds may be missed in channels where they are not evenly
            spaced, because float32 rounding moved one of them.

    Raises:
        ExportError: if the thresholds are not evenly spaced.
    """

    def __init__(self, *, slack: int = 0) -> None:
        super().__init__()
        self.slack = slack

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for node in list(model.graph.node):
            if node.op_type == "MultiThreshold":
                _replace(model, node, self.slack)
        return model.transform(InferShapes()), False


def _replace(model: ModelWrapper, node: NodeProto, slack: int) -> None:
    source, channels = node.input[0], shape_of(model, node.input[0])[1]
    removed, direction = [node], np.ones(channels, dtype=np.int64)
    producer = model.find_producer(source)
    if producer is not None and producer.op_type == "Mul":
        factor = model.get_initializer(producer.input[1])
        if isinstance(factor, np.ndarray) and (np.abs(factor) == 1).all():
            direction = np.broadcast_to(factor.reshape(-1), (channels,)).astype(np.int64)
            removed.append(producer)
            source = producer.input[0]
    lowest, highest, unit = _reach(model, source, node)
    low = np.where(direction > 0, lowest, -highest)
    high = np.where(direction > 0, highest, -lowest)
    thresholds = _integer_thresholds(model, node, low, high, unit)
    form = _form(node, thresholds.shape[1])
    exact = thresholds.copy()
    for channel, level, value in json.loads(note_of(node, MOVED) or "[]"):
        exact[channel, level] = np.clip(value, low[channel], high[channel] + 1)
    steps = affine_steps(
        thresholds, low, high, first=form.shift, exact=exact, slack=slack, name=node.name
    )
    one = float(1 << steps.bits)
    factor, offset = direction * steps.factor / one / unit, steps.offset / one
    built = NodeBuilder(source)

    def name(what: str) -> str:
        return f"{node.name}_{what}{len(built.nodes)}"

    if form.is_sign:
        # One threshold needs no fractional bits, so 2·v − 1 is odd.
        factor, offset = 2 * factor, 2 * offset - 1
    offset = offset + form.shift
    if (factor != 1).any() or offset.any():
        # hls4ml leaves out an affine layer that does nothing, though its type rounds and saturates.
        built.affine(f"{node.name}_affine", factor, offset)
    built.quant(
        name("quant"), form.bits, signed=form.signed, narrow=form.narrow, rounding=steps.rounding
    )
    if form.excess:
        built.affine(name("lowered"), np.ones(channels), np.full(channels, -form.excess))
        built.quant(name("quant"), form.bits, signed=False, narrow=False, rounding=ROUND)
    if form.rest:
        built.affine(name("shifted"), np.ones(channels), np.full(channels, form.rest))
    # The last node gives the levels, and so bears the quantizer's name.
    built.nodes[-1].output[0] = node.output[0]
    notes = (entry for entry in node.metadata_props if entry.key not in (REACH, MOVED))
    built.nodes[-1].metadata_props.extend(notes)
    built.nodes[0].metadata_props.add(key=SUMS, value="")
    for tensor, value in built.constants.items():
        model.set_initializer(tensor, value)
    replace(model, removed, built.nodes)


@dataclass(frozen=True)
class _Form:
    """A saturating type for the levels 0 … n of a staircase.

    Attributes:
        bits, signed, narrow: of the type.
        shift: what is added to the level.
        excess: what is taken off behind a first saturation.
        rest: what is added at the end.
        is_sign: whether the levels are −1 and 1.
    """

    bits: int
    signed: bool = False
    narrow: bool = False
    shift: int = 0
    excess: int = 0
    rest: int = 0
    is_sign: bool = False


def _form(node: NodeProto, count: int) -> _Form:
    options = attribute_values(node)
    first, step = round(options.get("out_bias", 0.0)), round(options.get("out_scale", 1.0))
    if (first, step, count) == (-1, 2, 1):
        return _Form(2, signed=True, narrow=True, is_sign=True)
    if step != 1:
        raise ExportError(f"{node.name} has steps of {step}: only sign may have steps of 2")
    last = first + count
    bits = max(last, -first - 1, 1).bit_length() + 1
    top = (1 << bits - 1) - 1
    if first < 0 and last == top and first in (-top, -top - 1):
        return _Form(bits, signed=True, narrow=first == -top, shift=first)
    bits = count.bit_length()
    excess = (1 << bits) - 1 - count
    return _Form(bits, shift=excess, excess=excess, rest=first)


def _reach(model: ModelWrapper, tensor: str, node: NodeProto) -> tuple[int, int, float]:
    """Ends in units, and the unit."""
    kind = model.get_tensor_datatype(tensor)
    if not (kind.is_integer() or isinstance(kind, FixedPointType)):
        raise ExportError(f"{node.name}: the type of its input {tensor} is not annotated")
    unit = kind.scale_factor() if isinstance(kind, FixedPointType) else 1.0
    noted = note_of(node, REACH)
    if noted is not None:
        low, high, unit = noted.split()
        return int(low), int(high), float(unit)
    return round(kind.min() / unit), round(kind.max() / unit), unit


def _integer_thresholds(
    model: ModelWrapper, node: NodeProto, low: np.ndarray, high: np.ndarray, unit: float
) -> np.ndarray:
    values = read_constant(model, node.input[1])
    # A multiple of the unit reaches a threshold when it reaches the next multiple.
    counted = np.ceil(values.astype(np.float64) / unit)
    return np.clip(counted, low[:, None], high[:, None] + 1).astype(np.int64)
