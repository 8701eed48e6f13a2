"""FINN: paddings of their own in front of convolutions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto

from ...levels import level_function
from ..node_attributes import integers_in, is_padded, padding_of
from .finn_layers import is_quantized_behind
from .graph_view import GraphView
from .requirement import Found, Requirements
from .walk import AFFINE, MOVES, WEIGHTED, integers_of

PADDING_REQUIREMENTS = Requirements()


@PADDING_REQUIREMENTS.add(
    "padding-form",
    why="Loud: FINN pads the height and width of what a window reads.",
    fix="pad by the convolution itself, or by nn.ConstantPad2d with sizes of 0 or more directly "
    "before an unpadded convolution of kernel 2 or more",
)
def padding_form(view: GraphView) -> Found:
    """Paddings that are not constant, crop, or stand elsewhere than before a convolution."""
    for node in view.of_kind("Pad"):
        readers = view.consumers(node.output[0])
        if padding_of(node, view.constant(node.input[1])) is None:
            yield view.layer(node), "a padding that is not one of height and width by a constant"
        elif not readers or not all(_is_unpadded_window(reader) for reader in readers):
            yield view.layer(node), "something else than unpadded convolutions reads the padded map"


def _is_unpadded_window(node: NodeProto) -> bool:
    is_window = node.op_type == "Conv" and max(integers_in(node, "kernel_shape", [1])) > 1
    return is_window and not is_padded(node)


@PADDING_REQUIREMENTS.add(
    "padding-value",
    why="Loud: FINN pads with 0. Where the lowest level is padded the flow lets it be 0, which all "
    "that reads the quantizer has to bear.",
    fix="pad with 0, or with the lowest level of the quantizer before (-1 times the scale of a "
    "sign), and let a quantizer follow each layer that reads it; no other padding, sum, "
    "concatenation or upsampling may read it: give those a quantizer of their own",
)
def padding_value(view: GraphView) -> Found:
    """Paddings with another number than 0, or the lowest level where a reader does not bear it."""
    for node in view.of_kind("Pad"):
        value = view.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if value is None or not value.any():
            continue
        padded = float(value.reshape(-1)[0])
        sources = integers_of(view, node.input[0])
        if sources is None or len(sources.quantizers) != 1:
            yield view.layer(node), f"it pads with {padded:g} what is no quantizer's integers"
            continue
        (name,) = sources.quantizers
        function = level_function(view.proxies[name])
        unit = np.float32(function.scale.max()) * np.float32(sources.factor)
        lowest = function.level_values[0]
        if np.float32(padded) / unit != lowest or bool(function.zero_point.any()):
            yield view.layer(node), f"it pads with {padded:g}, not with the lowest level of {name}"
            continue
        for reader in _readers(view, name):
            if not _bears(view, reader, padded):
                what = f"{view.layer(reader)} ({reader.op_type})"
                message = f"{what} reads {name} too, and cannot take its lowest level for 0"
                yield view.layer(node), message


def _readers(view: GraphView, quantizer: str) -> Iterator[NodeProto]:
    """What reads a quantizer's integers, and what reads them padded, pooled, moved or scaled."""
    names = [n.output[0] for n in view.nodes if view.activation_quantizer(n.output[0]) == quantizer]
    for name in names:
        for node in view.consumers(name):
            yield node
            if node.op_type in (*MOVES, "MaxPool", "Mul", "Pad") and view.quantizer(node) is None:
                names.append(node.output[0])


def _bears(view: GraphView, node: NodeProto, padded: float) -> bool:
    if node.op_type == "Pad":
        value = view.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        return value is not None and float(value.reshape(-1)[0]) == padded
    if node.op_type in WEIGHTED:
        return not is_padded(node) and is_quantized_behind(view, node, *AFFINE)
    return node.op_type in (*MOVES, "MaxPool", "Mul") or view.quantizer(node) is not None
