"""FINN: what the accelerator takes and gives."""

from __future__ import annotations

from onnx import NodeProto

from ..entry_levels import RESHAPES, entry_path, entry_thresholds, first_quantizer
from ..errors import ExportError
from ..fixed_point_bias import fixed_point_bias
from ..node_attributes import is_padded
from .graph_view import GraphView
from .last_bias import last_bias
from .requirement import Found, Requirements
from .walk import (
    AVERAGES,
    integers_of,
    is_join,
    is_repetition,
    joins_computed,
    spacing_of,
)

IO_REQUIREMENTS = Requirements()


@IO_REQUIREMENTS.add(
    "forked-image",
    severity="warning",
    why="Silent: the accelerator then takes channels first, and has a layer before each reader "
    "that holds the image to turn it.",
    fix="let one quantizer read the image, and all layers its result",
)
def forked_image(view: GraphView) -> Found:
    """Images that several layers read."""
    if len(view.consumers(view.input)) > 1:
        yield "model", "several layers read the unquantized image"


@IO_REQUIREMENTS.add(
    "pixel-input",
    why="Loud: where integers enter, the flow makes all that stands before the first quantizer "
    "part of its thresholds, or moves one factor behind the first layer, and turns what one layer "
    "reads of them to channels last; it stops elsewhere.",
    fix="let a quantizer of 8 bits or fewer be the first layer (put qnn.QuantIdentity() in front; "
    "what computes each value by itself and does not fall, and a max pool without padding, may "
    "stand before it), and all that reads it be convolutions, with flattened linear layers beside "
    "them, or one flattened linear layer or global average; or let one layer with weights read the "
    'image, trained on pixels="x/255" or pixels="x" without mean and std; or take images="float"',
)
def pixel_input(view: GraphView) -> Found:
    """With integers: other beginnings than a quantizer or layer that alone reads the image."""
    if not view.io.takes_integers:
        return
    if len(view.shape(view.input)) not in (2, 4):
        yield "model", "its input is neither an image (1, C, H, W) nor features (1, F)"
        return
    path = entry_path(view.graph)
    if not path:
        yield "model", "several layers read the image, and not one quantizer or layer alone"
        return
    quantizer, first = first_quantizer(path), path[-1]
    if quantizer is None:
        is_layer = first.op_type in ("Conv", "Gemm", "MatMul", *AVERAGES)
        if not is_layer or is_join(view, first):
            yield view.layer(first), "the image does not go into one quantizer or layer"
        elif integers_of(view, view.computed_inputs(first)[0]) is None:
            yield view.layer(first), "what it reads is neither quantized nor the integers times one"
        return
    try:
        entry_thresholds(view.model, quantizer, view.proxies[quantizer], view.example, view.io)
    except ExportError as error:
        yield quantizer, str(error)
    name = first.output[0]
    readers = view.consumers(name)
    turned = [_is_turned(view, node) for node in readers]
    if len(readers) > 1 and any(turned):
        others = (node for node, is_turned in zip(readers, turned, strict=True) if not is_turned)
        if all(_is_flattened(view, node) for node in others):
            return
    while (reader := _reader(view, name)) is not None and _is_passed(view, reader):
        name = reader.output[0]
    kinds = ("Conv", *AVERAGES) if len(view.shape(name)) == 4 else ("Gemm", "MatMul")
    if reader is None or not (reader.op_type in kinds or _is_flattened(view, reader)):
        yield view.layer(first), "something else than convolutions, or one layer, reads its result"


@IO_REQUIREMENTS.add(
    "rounded-image",
    severity="warning",
    why="Silent: PyTorch rounds x/255 and its sums; where such a sum lies within that rounding of "
    "a threshold, the accelerator's exact integers may differ from it, and verification counts "
    "that as rounding.",
    fix='put qnn.QuantIdentity() in front of the layer, train it on pixels="x" with weight scales '
    "that are powers of two, or accept the difference",
)
def rounded_image(view: GraphView) -> Found:
    """Layers with weights that read x/255 unquantized."""
    path = entry_path(view.graph) if view.io.takes_integers else []
    if path and first_quantizer(path) is None and view.io.factor not in (1, None):
        yield view.layer(path[-1]), "it reads pixels that have been divided by 255"


def _reader(view: GraphView, name: str) -> NodeProto | None:
    """The only node that reads a tensor."""
    readers = view.consumers(name)
    return readers[0] if len(readers) == 1 else None


def _is_passed(view: GraphView, node: NodeProto) -> bool:
    """Whether pixels pass a node in their layout: scalings, pools and repetitions."""
    is_scaling = node.op_type in ("Add", "Div", "Mul", "Sub") and not is_join(view, node)
    is_pool = node.op_type == "MaxPool" and not is_padded(node)
    return is_scaling or is_pool or is_repetition(view, node)


def _is_turned(view: GraphView, node: NodeProto) -> bool:
    """Whether a node, or all behind it, reads channels last: convolutions and concatenations."""
    if _is_passed(view, node):
        readers = view.consumers(node.output[0])
        return bool(readers) and all(_is_turned(view, reader) for reader in readers)
    return node.op_type == "Conv" or (node.op_type == "Concat" and joins_computed(view, node))


def _is_flattened(view: GraphView, node: NodeProto) -> bool:
    """Whether a node is a flattening for one linear layer."""
    layer = _reader(view, node.output[0]) if node.op_type in RESHAPES else None
    return layer is not None and layer.op_type in ("Gemm", "MatMul")


@IO_REQUIREMENTS.add(
    "class-result",
    why="Loud: FINN's LabelSelect compares integers; a factor of its own for each class leaves "
    "floats, and so does a bias between its integers where PyTorch's rounding may decide.",
    fix="return logits (1, classes) of two classes or more, flattened by the average or "
    "nn.Flatten(); end in a linear layer with one weight scale for all classes and bias=False, or "
    "bias_quant=Int32Bias (the quantizer before it needs return_quant_tensor=True); or with scales "
    "that are powers of two, which leave only the bias to be rounded; or in a quantizer behind it; "
    'or take result="logits"',
)
def class_result(view: GraphView) -> Found:
    """With the class as result: logits (1, classes) that are not integers times one scale."""
    if view.io.result != "class":
        return
    name = view.output
    shape = view.shape(name)
    if len(shape) != 2:
        yield "model", f"its result has shape {tuple(shape)}: flatten it to (1, classes)"
    elif shape[1] < 2:
        yield "model", "its result is one logit: the largest of several takes two classes or more"
    elif spacing_of(view, name, shifted=True) is None:
        yield from _inexact_bias(view, is_class=True)


@IO_REQUIREMENTS.add(
    "integer-result",
    why="Loud: what is left out behind the last integers is one positive factor.",
    fix="end in a linear layer with one weight scale for all classes and bias=False, or "
    "bias_quant=Int32Bias (the quantizer before it needs return_quant_tensor=True), or in a "
    'quantizer behind it; or take result="logits"',
)
def integer_result(view: GraphView) -> Found:
    """With integers as result: logits that are not integers times one positive number."""
    if view.io.result == "integers" and (spacing_of(view, view.output) or 0) <= 0:
        yield from _inexact_bias(view, is_class=False)


def _inexact_bias(view: GraphView, *, is_class: bool) -> Found:
    """Why a last layer's bias leaves no integers; nothing where it does."""
    last = last_bias(view, is_class=is_class)
    if last is None:
        number = "scale" if is_class else "positive number"
        yield "model", f"its result is not integers times one {number}"
        return
    try:
        fixed_point_bias(last.bias, last.scale, last.reach, last.terms, is_class=is_class)
    except ExportError as error:
        yield view.layer(last.layer), str(error)
