"""FINN: what has to be quantized, so that integers reach every layer."""

from __future__ import annotations

from onnx import NodeProto

from ..node_attributes import integers_in, is_padded
from .graph_view import GraphView
from .requirement import Found, Requirements
from .walk import (
    AVERAGES,
    WEIGHTED,
    feeding_nodes,
    integers_of,
    is_join,
    reads_twice,
    spacing_of,
    weighted_layers,
)

QUANTIZATION_REQUIREMENTS = Requirements()

REASONS = {
    "BatchNormalization": "a batch norm stands between its quantizer and it",
    "Relu": "a ReLU that no quantizer follows",
}


@QUANTIZATION_REQUIREMENTS.add(
    "unquantized-input",
    why="Loud: a matrix product of floats has no hardware layer.",
    fix="let a quantizer be the last thing before the layer (after batch norm, sum and ReLU; pools "
    "and flattening may follow it), with one scale for all channels; quantize the images too",
)
def unquantized_input(view: GraphView) -> Found:
    """Layers with weights whose input is not integers times one positive scale."""
    for node in weighted_layers(view):
        if node.op_type == "ConvTranspose":
            continue
        name = view.computed_inputs(node)[0]
        if any(reads_twice(view, before) for before in feeding_nodes(view, name)):
            # Another requirement names that node; what it gives is not known.
            continue
        if integers_of(view, name, shifted=not is_padded(node)) is None:
            yield view.layer(node), _reason(view, name)


def _reason(view: GraphView, name: str) -> str:
    node = None
    for node in feeding_nodes(view, name):
        factor = view.constant(node.input[1]) if node.op_type in ("Mul", "Div") else None
        if factor is not None and factor.size > 1:
            return "its input has a scale for each channel"
    if node is None or not view.is_computed(node.input[0]):
        return "its input is the unquantized image"
    if node.op_type in WEIGHTED:
        return f"its input is the unquantized result of {view.layer(node)}"
    if node.op_type in REASONS:
        return f"its input is not quantized: {REASONS[node.op_type]}"
    if node.op_type == "Add":
        return f"its input is the unquantized sum of {view.layer(node)}, of different scales"
    if node.op_type == "Concat":
        return f"its input joins values that are not quantized ({view.layer(node)})"
    if view.quantizer(node) is not None:
        return f"its input is not the integers of {view.quantizer(node)} alone"
    return f"its input is the unquantized result of {node.op_type} ({view.layer(node)})"


@QUANTIZATION_REQUIREMENTS.add(
    "unquantized-weight",
    why="Loud: a matrix product with float weights has no hardware layer.",
    fix="use a layer of brevitas.nn with a weight quantizer",
)
def unquantized_weight(view: GraphView) -> Found:
    """Convolutions and linear layers of plain PyTorch, or with weight_quant=None."""
    for node in weighted_layers(view):
        if view.weight_quantizer(node) is None:
            yield view.layer(node), "its weights are not quantized"


@QUANTIZATION_REQUIREMENTS.add(
    "channel-scale",
    why="Loud: a factor for each channel does not move through a layer's sums, so the layer behind "
    "it stays a float one.",
    fix="use one scale for all channels of an activation, e.g. "
    "scaling_per_output_type=ScalingPerOutputType.TENSOR, and one quantizer for all branches that "
    "are joined, torch.cat([self.act(a), self.act(b)], 1), or another one behind, "
    "self.act(torch.cat([a, b], 1)); or make the layer behind it a depthwise one",
)
def channel_scale(view: GraphView) -> Found:
    """Activation quantizers with a scale or zero-point for each channel that feed a layer.

    No sum over channels mixes the scales in a depthwise layer.
    """
    for node in weighted_layers(view):
        if node.op_type == "Conv" and integers_in(node, "group", [1])[0] == _channels(view, node):
            continue
        integers = integers_of(view, view.computed_inputs(node)[0], shifted=True)
        if integers is not None and integers.joins_scales:
            yield view.layer(node), "its input joins channels of different scales"
        for name in () if integers is None else integers.quantizers:
            proxy = view.proxies[name]
            if max(proxy.scale().numel(), proxy.zero_point().numel()) > 1:
                yield name, f"a scale for each of {proxy.scale().numel()} channels"


def _channels(view: GraphView, node: NodeProto) -> int:
    return view.shape(node.input[0])[1]


@QUANTIZATION_REQUIREMENTS.add(
    "float-average",
    why="Loud: FINN accumulates integers; an average of floats has no hardware layer.",
    fix="quantize directly before the average, with one scale for all channels",
)
def float_average(view: GraphView) -> Found:
    """Global averages of something else than integers times one scale."""
    for node in view.of_kind(*AVERAGES):
        name = view.computed_inputs(node)[0]
        if spacing_of(view, name, shifted=True) is None:
            yield view.layer(node), "an average of values that are not integers times one scale"


@QUANTIZATION_REQUIREMENTS.add(
    "float-sum",
    severity="warning",
    why="Silent: FINN adds such summands as 32-bit floats, which costs far more logic than "
    "integers and puts the quantizer behind it on float inputs.",
    fix="send both summands through one shared signed quantizer, or two of the same scale, before "
    "adding them as plain tensors (this changes the trained function)",
)
def float_sum(view: GraphView) -> Found:
    """Sums of two branches that are not both integers of the same scale."""
    for node in view.of_kind("Add"):
        if not is_join(view, node):
            continue
        if None in [integers_of(view, name) for name in node.input]:
            yield view.layer(node), "a summand is not quantized"
        elif integers_of(view, node.output[0]) is None:
            yield view.layer(node), "the summands have different scales"
