"""FINN: what puts values beside each other or repeats them, without computing anything."""

from __future__ import annotations

from onnx import NodeProto

from ..copy_nodes import joins_channels
from .graph_view import GraphView
from .requirement import Found, Requirements
from .walk import (
    AFFINE,
    WEIGHTED,
    integers_of,
    is_join,
    is_repetition,
    joins_computed,
    reads_twice,
    spacing_of,
)

COPY_REQUIREMENTS = Requirements()


@COPY_REQUIREMENTS.add(
    "concatenation",
    why="Loud: FINN joins the channels of integers; of other values, or along another axis, it has "
    "no hardware layer.",
    fix="join computed branches along axis 1, torch.cat([a, b], 1), each quantized or a layer's "
    "result (a batch norm may stand between): joined = self.act(torch.cat([a, b], 1)), or "
    "torch.cat([self.act(a), self.act(b)], 1) with one self.act for all",
)
def concatenation(view: GraphView) -> Found:
    """Concatenations along other axes than channels, of constants, or of floats."""
    for node in view.of_kind("Concat"):
        is_of_channels = joins_channels(node, len(view.shape(node.output[0])) or 1)
        if is_of_channels and reads_twice(view, node):
            # Another requirement names it.
            continue
        if not joins_computed(view, node):
            yield view.layer(node), "it joins something else than the channels of computed branches"
            continue
        for name in node.input:
            if not _is_integral(view, name):
                yield view.layer(node), "it joins values that are not quantized"
                break


@COPY_REQUIREMENTS.add(
    "upsampling",
    why="Loud: FINN repeats integers; interpolation between values, or by fractions, has no "
    "hardware layer.",
    fix='upsample quantized values by whole numbers: nn.Upsample(scale_factor=2, mode="nearest") '
    "directly behind a quantizer",
)
def upsampling(view: GraphView) -> Found:
    """Upsampling that is not by whole numbers and copying, or of floats."""
    for node in view.of_kind("Resize"):
        if not is_repetition(view, node):
            yield view.layer(node), "it does more than repeat each value a whole number of times"
        elif spacing_of(view, node.input[0], shifted=True) is None:
            yield view.layer(node), "it repeats values that are not quantized"


def _is_integral(view: GraphView, name: str) -> bool:
    """Whether a tensor is integers, times and plus a number for each channel."""
    if view.activation_quantizer(name) is not None or integers_of(view, name) is not None:
        return True
    node: NodeProto | None = view.producer(name)
    if node is None:
        return False
    if node.op_type in AFFINE and not is_join(view, node):
        return _is_integral(view, view.computed_inputs(node)[0])
    if node.op_type == "Concat":
        return all(_is_integral(view, entry) for entry in node.input)
    return node.op_type in WEIGHTED or spacing_of(view, name) is not None
