"""The bias of a network's last layer, and what the layer's integers are multiplied with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from onnx import NodeProto
from qonnx.core.datatype import DataType

from ...levels import level_function
from ..graph_reading import initializer
from ..integer_types import integer_type
from .graph_view import GraphView
from .walk import AVERAGES, MOVES, feeding_nodes, integers_of, is_join, spacing_of

BIAS = 2


@dataclass(frozen=True)
class LastBias:
    """What ``fixed_point_bias`` is to be asked about.

    Attributes:
        layer: the node of the linear layer.
        bias: of each class, with what is added behind the layer.
        scale: of the sums.
        reach: of each class, the largest that a sum may be.
        terms: how many numbers are added up in a sum, averages before the layer included.
    """

    layer: NodeProto
    bias: np.ndarray
    scale: float
    reach: np.ndarray
    terms: int


def last_bias(view: GraphView, *, is_class: bool) -> LastBias | None:
    """The bias of the last layer, a linear one with a scale of its weights and of its input.

    None where the network ends otherwise. Behind the layer may stand positive factors and summands
    that all classes share; the summands are part of the bias, except where the class is asked for.
    """
    name, factor, shift = view.output, 1.0, 0.0
    while (node := view.producer(name)) is not None and node.op_type != "Gemm":
        constant = None if len(node.input) < 2 else view.constant(node.input[1])
        if node.op_type in MOVES:
            pass
        elif constant is None or constant.size > 1 or is_join(view, node):
            return None
        elif node.op_type in ("Add", "Sub"):
            shift += factor * float(constant.item()) * (1 if node.op_type == "Add" else -1)
        elif node.op_type in ("Mul", "Div") and constant.item() > 0:
            value = float(constant.item())
            factor *= value if node.op_type == "Mul" else 1 / value
        else:
            return None
        name = node.input[0]
    weight = None if node is None else view.weight_quantizer(node)
    if node is None or weight is None or len(node.input) <= BIAS:
        return None
    positions = _positions(view, node.input[0])
    step, scale = spacing_of(view, node.input[0]), level_function(view.proxies[weight]).scale
    sources = integers_of(view, node.input[0])
    bias = _value(view, node)
    if step is None or step <= 0 or sources is None or bias is None or scale.numel() > 1:
        return None
    kinds = [_datatype(view.proxies[name]) for name in sources.quantizers]
    largest = sum(max(abs(kind.min()), kind.max()) for kind in kinds)
    largest = (largest or max(map(abs, view.io.ends))) * positions
    totals = weight_totals(view.proxies[weight]).numpy()
    shift = 0.0 if is_class else shift
    bias = np.broadcast_to(bias.reshape(-1) + shift / factor, totals.shape)
    terms = view.shape(node.input[0])[1] + positions
    return LastBias(node, bias, step / positions * float(scale), largest * totals, terms)


def weight_totals(proxy: Any) -> torch.Tensor:
    """Of each output channel, the sum of the absolute integers of its weights."""
    with torch.no_grad():
        latent = proxy.tracked_module_list[0].weight
        integers = proxy.tensor_quant(latent.clone())[0] / level_function(proxy).scale
    # Channels of a convolution or linear layer lie on axis 0.
    return integers.abs().flatten(1).sum(1)


def _positions(view: GraphView, name: str) -> int:
    """How many values the averages before a layer take the mean of."""
    count = 1
    for node in feeding_nodes(view, name):
        if node.op_type in AVERAGES:
            count *= int(np.prod(view.shape(node.input[0])[2:]))
    return count


def _datatype(proxy: Any) -> Any:
    values = level_function(proxy).level_values
    return DataType[integer_type(values[0], values[-1])]


def _value(view: GraphView, layer: NodeProto) -> np.ndarray | None:
    if view.constant(layer.input[BIAS]) is not None:
        return view.constant(layer.input[BIAS])
    # FINN's flow asks this room.
    from ..finn.passes import FoldQuantizedBias

    folded = view.graph.transform(FoldQuantizedBias())
    behind = folded.find_producer(layer.output[0])
    return None if behind is None else initializer(folded, behind.input[BIAS])
