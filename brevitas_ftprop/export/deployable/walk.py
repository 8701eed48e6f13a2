"""Walks through a traced graph: where a tensor's integers come from, and what becomes of a sum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import NodeProto

from ...levels import level_function
from ..copy_nodes import copies_of, joins_channels
from ..node_attributes import is_padded
from ..trunc_nodes import truncation_of
from .graph_view import GraphView

WEIGHTED = ("Conv", "Gemm", "MatMul", "ConvTranspose")
AFFINE = ("Add", "BatchNormalization", "Div", "Mul", "Sub")
AVERAGES = ("AveragePool", "GlobalAveragePool", "ReduceMean")
MOVES = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def weighted_layers(view: GraphView) -> Iterator[NodeProto]:
    """Convolutions and matrix products of the input's side with weights."""
    return (node for node in view.of_kind(*WEIGHTED) if len(view.computed_inputs(node)) == 1)


def is_join(view: GraphView, node: NodeProto) -> bool:
    """Whether a node combines tensors that both depend on the input."""
    return len(view.computed_inputs(node)) > 1


def joins_computed(view: GraphView, node: NodeProto) -> bool:
    """Whether a node adds two computed tensors, or joins the channels of such."""
    if node.op_type == "Add":
        return is_join(view, node)
    is_of_channels = joins_channels(node, len(view.shape(node.output[0])) or 1)
    return is_of_channels and len(view.computed_inputs(node)) == len(node.input)


def reads_twice(view: GraphView, node: NodeProto) -> bool:
    """Whether a node read one tensor twice: qonnx has then renamed one of the two, and not both."""
    known = (view.producer, view.constant)
    return any(
        name and name != view.input and all(find(name) is None for find in known)
        for name in node.input
    )


def is_repetition(view: GraphView, node: NodeProto) -> bool:
    """Whether a node is a ``Resize`` that repeats each value a whole number of times."""
    shapes = (view.shape(name) for name in (node.input[0], node.output[0]))
    return node.op_type == "Resize" and copies_of(node, *shapes) is not None


def is_global_average(view: GraphView, node: NodeProto) -> bool:
    """Whether a node is the mean over all positions of (N, C, H, W), of any rank."""
    before, after = view.shape(node.input[0]), view.shape(node.output[0])
    if len(before) != 4 or np.prod(after) != np.prod(before[:2]):
        return False
    return node.op_type != "AveragePool" or not is_padded(node)


def feeding_nodes(view: GraphView, name: str) -> Iterator[NodeProto]:
    """The nodes between a tensor and the quantizers, layers or joins before it, from behind.

    The last one is the first node of another kind than pools, averages, moves and arithmetic with
    a constant; none where the graph's input is reached.
    """
    while (node := view.producer(name)) is not None:
        yield node
        passes = node.op_type in (
            *MOVES,
            *AVERAGES,
            "MaxPool",
            "Trunc",
            "Add",
            "Mul",
            "Sub",
            "Div",
            "Resize",
        )
        if view.quantizer(node) is not None or not passes or is_join(view, node):
            return
        name = view.computed_inputs(node)[0]


@dataclass(frozen=True)
class IntegerSources:
    """Whose integers a tensor holds, and what they were multiplied with.

    Attributes:
        quantizers: names of the quantizers; none where they are the integers that enter.
        factor: of the multiplications behind them; not 0.
        joins_scales: whether channels of different scales have been joined.
    """

    quantizers: tuple[str, ...]
    factor: float = 1.0
    joins_scales: bool = False


def integers_of(view: GraphView, name: str, *, shifted: bool = False) -> IntegerSources | None:
    """The quantizers whose integers, times their scales, a tensor holds.

    None where it holds something else: the input, a sum that no quantizer follows, a sum of
    unequal scales, values that went through a ReLU, a batch norm or a factor for each channel.

    Args:
        view: the traced model.
        name: of the tensor.
        shifted: whether one constant may have been added to all integers, which FINN moves behind
            a layer unless that layer, or a pool before it, pads.
    """
    quantizer = view.activation_quantizer(name)
    if quantizer is not None:
        return IntegerSources((quantizer,))
    node = view.producer(name)
    if node is None:
        factor = entering_factor(view, name)
        return None if factor is None else IntegerSources((), factor)
    computed = view.computed_inputs(node)
    if node.op_type in (*MOVES, "MaxPool") or (
        node.op_type in AVERAGES and is_global_average(view, node)
    ):
        before = integers_of(view, computed[0], shifted=shifted and not is_padded(node))
        if before is not None and before.factor < 0 and node.op_type == "MaxPool":
            return None if _has_joins(view) else before
        return before
    if node.op_type == "Pad":
        return integers_of(view, computed[0])
    if node.op_type == "Trunc":
        return integers_of(view, _before_truncated_pool(view, node))
    if is_repetition(view, node):
        return integers_of(view, computed[0], shifted=shifted)
    if joins_computed(view, node):
        branches = [integers_of(view, entry) for entry in computed]
        return _joined(branches, view, is_sum=node.op_type == "Add")
    factor = _factor(view, node, shifted=shifted)
    before = integers_of(view, computed[0], shifted=shifted) if factor else None
    return before and replace(before, factor=before.factor * factor)


def entering_factor(view: GraphView, name: str) -> float | None:
    """What the integers that enter are multiplied with where the model reads them."""
    return view.io.factor if view.io.takes_integers and name == view.input else None


def _has_joins(view: GraphView) -> bool:
    """Whether branches are joined or copied; there the flow keeps no negative factor before pools.

    See ``streamlining_orders``.
    """
    copies = next(view.of_kind("Concat", "Resize"), None)
    return copies is not None or any(is_join(view, node) for node in view.of_kind("Add"))


def spacing_of(view: GraphView, name: str, *, shifted: bool = False) -> float | None:
    """The one number of which a tensor holds multiples; None if there is none.

    Unlike ``integers_of`` also behind layers, whose sums are integers times the product of scales.

    Args:
        view: the traced model.
        name: of the tensor.
        shifted: whether one constant may have been added to all of them.
    """
    node, quantizer = view.producer(name), view.activation_quantizer(name)
    if quantizer is not None:
        return _only(view.proxies[quantizer])
    if node is None:
        return entering_factor(view, name)
    computed = view.computed_inputs(node)
    if node.op_type in MOVES or (node.op_type in AVERAGES and is_global_average(view, node)):
        return spacing_of(view, computed[0], shifted=shifted)
    if node.op_type == "MaxPool":
        # A layer's sums turn with its weights, a quantizer's integers do not.
        is_turned = integers_of(view, computed[0]) is not None and integers_of(view, name) is None
        return None if is_turned else spacing_of(view, computed[0])
    if node.op_type == "Trunc":
        truncation = truncation_of(node, view.constant)
        step = spacing_of(view, _before_truncated_pool(view, node))
        return None if truncation is None or step is None else truncation.scale
    if node.op_type in WEIGHTED:
        weight = view.weight_quantizer(node)
        step = spacing_of(view, computed[0]) if len(node.input) == 2 and weight else None
        scale = _only(view.proxies[weight]) if weight else None
        return None if step is None or scale is None else step * scale
    if is_repetition(view, node):
        return spacing_of(view, computed[0], shifted=shifted)
    if joins_computed(view, node):
        steps = {spacing_of(view, entry) for entry in computed}
        return steps.pop() if len(steps) == 1 else None
    factor = _factor(view, node, shifted=shifted)
    step = spacing_of(view, computed[0], shifted=shifted) if factor else None
    return None if step is None else step * factor


def _before_truncated_pool(view: GraphView, node: NodeProto) -> str:
    """What the average pool before a truncation reads; what the truncation reads without one."""
    pool = view.producer(node.input[0])
    return node.input[0] if pool is None or pool.op_type != "AveragePool" else pool.input[0]


def _only(proxy: Any) -> float | None:
    """A quantizer's scale, None where it or the zero-point has several values."""
    function = level_function(proxy)
    is_one = function.scale.numel() == function.zero_point.numel() == 1
    return float(function.scale) if is_one else None


def _joined(
    branches: list[IntegerSources | None], view: GraphView, *, is_sum: bool
) -> IntegerSources | None:
    scales, names, factors = set(), [], []
    for branch in branches:
        if branch is None:
            return None
        names += branch.quantizers
        factors.append(branch.factor)
        if not branch.quantizers:
            scales.add(branch.factor)
        for name in branch.quantizers:
            scale = view.proxies[name].scale().detach()
            is_one = scale.numel() == 1 and not branch.joins_scales
            scales.add(branch.factor * float(scale) if is_one else None)
    is_one = len(scales) == 1 and None not in scales
    if is_sum:
        return IntegerSources(tuple(names)) if is_one else None
    if not is_one and min(factors) < 0:
        return None
    return IntegerSources(tuple(names), factors[0], joins_scales=not is_one)


def _factor(view: GraphView, node: NodeProto, *, shifted: bool) -> float:
    """What a node multiplies its one computed input with; 0 where it does something else."""
    constant = next((c for c in map(view.constant, node.input) if c is not None), None)
    if is_join(view, node) or constant is None or constant.size != 1:
        return 0.0
    if shifted and node.op_type in ("Add", "Sub"):
        return float(view.is_computed(node.input[0]))
    value = float(constant.reshape(-1)[0])
    if node.op_type == "Div":
        return 1 / value if value else 0.0
    return value if node.op_type == "Mul" else 0.0
