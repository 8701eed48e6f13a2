"""Which forms of convolutions, averages, factors and quantizers have layers on integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper

from ..height_one import nodes_on_signals
from ..node_attributes import attribute_values, integers_in, is_padded
from ..trunc_nodes import truncation_of
from .elementwise import Levels, levels_of, rescaled
from .exported_graph import Graph, layer_of
from .integers import Integers, RefusedNodeError

# Toward zero the level 0 is twice as wide as the others.
EVEN_ROUNDINGS = ("CEIL", "FLOOR", "ROUND")
# Dimensions of a batch of signals.
SIGNALS = 3


@dataclass(frozen=True)
class Windows:
    """The windows of an average pool, in height and width.

    Attributes:
        kernel, strides: of each axis.
        pads: before and behind, as ONNX orders them.
        size: of the map of averages.
    """

    kernel: Sequence[int]
    strides: Sequence[int]
    pads: Sequence[int]
    size: Sequence[int]


def refuse(graph: Graph, node: NodeProto, requirement: str, what: str) -> NoReturn:
    """Raise the refusal of a node, by the name of its layer."""
    raise RefusedNodeError(node, what, requirement, name=layer_of(graph, node))


def check_dimensions(graph: Graph, node: NodeProto) -> None:
    """Raise unless a layer has two spatial dimensions; names what keeps a 1-D one from it."""
    spatial = len(graph.shapes[node.input[0]]) - 2
    if spatial == 2:
        return
    what = f"has {spatial} spatial dimensions, not 2"
    formless = (
        nodes_on_signals(ModelWrapper(graph.model), without_form=True) if spatial == 1 else []
    )
    if formless:
        other = f"{layer_of(graph, formless[0])} ({formless[0].op_type})"
        what = f"is on signals (N, C, L), and {other} has no form on images of height 1"
    refuse(graph, node, "dimensions", what)


def check_conv(graph: Graph, node: NodeProto) -> None:
    """Raise unless a convolution has two dimensions, and one group or one for each channel."""
    check_dimensions(graph, node)
    before, after = (graph.shapes[name] for name in (node.input[0], node.output[0]))
    group = integers_in(node, "group", [1])[0]
    if group != 1 and not group == before[1] == after[1]:
        what = f"has {group} groups for {before[1]} → {after[1]} channels"
        refuse(graph, node, "groups", what)
    if attribute_values(node).get("auto_pad", "NOTSET") != "NOTSET":
        refuse(graph, node, "exact-form", "has automatic padding: give numbers")


def check_scales(graph: Graph, node: NodeProto, source: Integers) -> None:
    """Raise if a layer mixes channels of different scales, or reads what no quantizer gives."""
    if source.is_uniform:
        return
    if not source.quantizer:
        what = f"reads the result of {source.name}, which is not quantized"
        refuse(graph, node, "unquantized-input", what)
    if integers_in(node, "group", [1])[0] != source.shape[1]:
        what = f"mixes integers of different scales, of {source.quantizer}"
        refuse(graph, node, "joined-scales", what)


def check_channels(graph: Graph, node: NodeProto) -> None:
    """Raise unless a concatenation joins channels, and computed ones only."""
    axis = integers_in(node, "axis", [0])[0] % len(graph.shapes[node.output[0]])
    if axis != 1 or len(graph.computed_inputs(node)) < len(node.input):
        refuse(graph, node, "branches", "joins something else than the channels of branches")


def check_truncation(graph: Graph, node: NodeProto) -> None:
    """Raise unless a truncation has levels that are evenly spaced sums."""
    parameters = dict(zip(node.input, graph.operands(node), strict=True))
    found = truncation_of(node, parameters.__getitem__)
    if found is None:
        refuse(graph, node, "truncation", "has a scale that is computed, or one for each channel")
    if found.zero_point:
        refuse(graph, node, "truncation", "truncates integers with a zero-point")
    if found.signed and found.rounding not in EVEN_ROUNDINGS:
        refuse(graph, node, "truncation", f"rounds signed sums by {found.rounding}")


def windows_of(graph: Graph, node: NodeProto, source: Integers) -> Windows:
    """The windows of an average over height and width.

    Raises:
        RefusedNodeError: for other averages, and windows that are not divided alike.
    """
    if len(source.shape) == SIGNALS:
        check_dimensions(graph, node)
    if len(source.shape) != 4 or not _is_over_maps(graph, node):
        refuse(graph, node, "average-pool", "is no average over height and width")
    size = list(source.shape[2:])
    if node.op_type != "AveragePool":
        return Windows(size, size, [0] * 4, [1, 1])
    kernel, strides = (integers_in(node, name, [1, 1]) for name in ("kernel_shape", "strides"))
    pads = integers_in(node, "pads", [0] * 4)
    counts = integers_in(node, "count_include_pad", [0])[0] and source.bias is None
    if is_padded(node) and not counts:
        refuse(graph, node, "average-pool", "has padding that it does not count")
    ends = [size[axis] + pads[axis] + pads[axis + 2] for axis in (0, 1)]
    floor = [(end - k) // s + 1 for end, k, s in zip(ends, kernel, strides, strict=True)]
    if floor != list(graph.shapes[node.output[0]][2:]):
        refuse(graph, node, "average-pool", "has ceil_mode, and windows that are cut")
    return Windows(kernel, strides, pads, floor)


def _is_over_maps(graph: Graph, node: NodeProto) -> bool:
    if node.op_type != "ReduceMean":
        return True
    given = [operand for operand in graph.operands(node)[1:] if operand is not None]
    axes = given[0].reshape(-1).tolist() if given else integers_in(node, "axes", [])
    return {axis % 4 for axis in axes} == {2, 3}


def factor_of(graph: Graph, node: NodeProto) -> float:
    """The positive number that a node multiplies with; 0 where it does something else."""
    operands = graph.operands(node)
    constant = next((operand for operand in operands if operand is not None), None)
    if constant is None or constant.size != 1:
        return 0.0
    value = float(constant.reshape(-1)[0])
    if node.op_type == "Div" and operands[0] is None and value > 0:
        return 1 / value
    return max(value, 0.0) if node.op_type == "Mul" else 0.0


def is_type_of_images(graph: Graph, node: NodeProto, levels: Levels) -> bool:
    """Whether a fixed-point type rounds and saturates as a quantizer does."""
    if node.op_type not in ("Quant", "IntQuant") or np.frexp(levels.scale)[0] != 0.5:
        return False
    has_zero_point = np.any(graph.operands(node)[2])
    return not has_zero_point and attribute_values(node)["rounding_mode"] == "ROUND"


def quantizer_levels(graph: Graph, node: NodeProto, name: str) -> tuple[Levels, list[NodeProto]]:
    """A quantizer's levels, and the nodes that take off its zero-point and apply its scale.

    Raises:
        ExportError: for several scales, zero-points or bit widths, and scales that are not
            positive.
    """
    levels, tail, last = levels_of(node, graph.operands(node), name), [], node
    while last.op_type in ("MultiThreshold", "Sub"):
        readers = graph.readers(last.output[0])
        if len(readers) != 1 or readers[0].op_type not in ("Sub", "Mul"):
            break
        operands = graph.operands(readers[0])
        if any(operand is not None and operand.size > 1 for operand in operands):
            break
        (last,) = readers
        tail.append(last)
        levels = rescaled(levels, last, operands, name)
    return levels, tail
