"""Where branches of integers meet: sums, and channels side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from onnx import NodeProto, helper

from .integer_layers import LayerWriter
from .integers import Integers, RefusedNodeError


def added(
    writer: LayerWriter, one: Integers, other: Integers, node: NodeProto, layer: str
) -> Integers:
    """The sum of two tensors of integers.

    Raises:
        RefusedNodeError: if one scale is no multiple of the other.
    """
    biases = [each.bias for each in (one, other) if each.bias is not None]
    bias = np.asarray(sum(biases), np.float32) if biases else None
    if one.tensor == other.tensor:
        return replace(one, scale=one.scale + other.scale, bias=bias, name=layer, quantizer="")
    scale = np.minimum(one.scale, other.scale)
    factors = [np.rint(each.scale / scale) for each in (one, other)]
    pairs = list(zip((one, other), factors, strict=True))
    if any((factor * scale != each.scale).any() for each, factor in pairs):
        scales = " and ".join(f"{each.scale[0]:g} of {each.name}" for each, _ in pairs)
        what = f"adds integers of different scales: {scales}"
        raise RefusedNodeError(node, what, "float-sum", name=layer)
    name = writer.name(layer)
    tensors, low, high = [], 0, 0
    for position, (each, factor) in enumerate(pairs):
        tensors.append(_scaled(writer, each, factor, f"{name}_summand{position}"))
        low, high = low + int(factor.max()) * each.low, high + int(factor.max()) * each.high
    writer.built.append(helper.make_node("Add", tensors, [f"{name}_sum"], name))
    return writer.noted(Integers("", one.shape, low, high, scale, layer, bias=bias))


def concatenated(
    writer: LayerWriter, parts: Sequence[Integers], shape: tuple[int, ...], layer: str
) -> Integers:
    """The channels of several tensors of integers, each with its scale, one behind the other.

    Args:
        writer: of the graph.
        parts: tensors of one shape, but for their channels.
        shape: of all channels together.
        layer: name of what joins them.
    """
    name = writer.name(layer)
    first, *others = (
        _scaled(writer, each, 1.0, f"{name}_branch{position}")
        for position, each in enumerate(parts)
    )
    # hls4ml's layer joins two.
    for position, tensor in enumerate(others, 2):
        joined, kept = f"{name}_first{position}", name if position == len(parts) else ""
        node = helper.make_node(
            "Concat", [first, tensor], [joined], kept or f"{name}_{position}", axis=1
        )
        writer.built.append(node)
        first = joined
    channels = [each.shape[1] for each in parts]
    ends = min(each.low for each in parts), max(each.high for each in parts)
    scale = _by_channel([each.scale for each in parts], channels)
    bias = None
    if any(each.bias is not None for each in parts):
        biases = [np.zeros(1, np.float32) if each.bias is None else each.bias for each in parts]
        bias = _by_channel(biases, channels)
    quantizers = dict.fromkeys(each.quantizer for each in parts)
    quantizer = "" if "" in quantizers else " and ".join(quantizers)
    return writer.noted(Integers("", shape, *ends, scale, layer, bias=bias, quantizer=quantizer))


def _scaled(writer: LayerWriter, each: Integers, factor: ArrayLike, name: str) -> str:
    """The tensor of factors times integers, which count in units of 1."""
    writer.built.tensor = each.tensor
    if np.any(np.asarray(factor) != each.unit):
        writer.scaled(name, each, factor=np.asarray(factor) / each.unit)
    return writer.built.tensor


def _by_channel(values: Sequence[np.ndarray], channels: Sequence[int]) -> np.ndarray:
    return np.concatenate([np.broadcast_to(*each) for each in zip(values, channels, strict=True)])
