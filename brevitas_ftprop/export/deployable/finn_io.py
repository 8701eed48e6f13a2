"""FINN: what the accelerator takes and gives."""

from __future__ import annotations

from onnx import NodeProto

from ...levels import level_function
from ..node_attributes import is_padded
from .graph_view import GraphView
from .requirement import Found, Requirements
from .walk import AVERAGES, is_join, spacing_of

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
    why="Loud: the flow writes the thresholds of a first quantizer in pixel values, normalization "
    "and all, and turns what one layer reads of them to channels last; it stops elsewhere.",
    fix="let a quantizer of 8 bits or fewer be the only layer that reads the image (a max pool "
    "without padding may stand before it), and one convolution, flattened linear layer or global "
    'average the only one behind it; or take images="float"',
)
def pixel_input(view: GraphView) -> Found:
    """With uint8 images: other beginnings than one quantizer and one layer behind it."""
    name = view.input
    if view.images != "uint8":
        return
    if len(view.shape(name)) != 4:
        yield "model", "its input is no image (1, C, H, W)"
        return
    while (node := _reader(view, name)) is not None and _is_plain_pool(node):
        name = node.output[0]
    # The flow takes a ReLU into a quantizer whose levels begin above 0.
    if node is not None and node.op_type == "Relu":
        behind = _reader(view, node.output[0])
        node = behind if _is_unsigned(view, view.quantizer(behind)) else None
    if node is None or view.quantizer(node) is None:
        yield "model", "the image does not go into one quantizer"
        return
    name = node.output[0]
    while (reader := _reader(view, name)) is not None and _is_passed(view, reader):
        name = reader.output[0]
    if reader is not None and reader.op_type in ("Flatten", "Reshape"):
        behind = _reader(view, reader.output[0])
        reader = behind if behind is not None and behind.op_type in ("Gemm", "MatMul") else None
    elif reader is not None and reader.op_type not in ("Conv", *AVERAGES):
        reader = None
    if reader is None:
        yield view.layer(node), "not one layer or average alone reads the quantized image"


def _reader(view: GraphView, name: str) -> NodeProto | None:
    """The only node that reads a tensor."""
    readers = view.consumers(name)
    return readers[0] if len(readers) == 1 else None


def _is_plain_pool(node: NodeProto) -> bool:
    return node.op_type == "MaxPool" and not is_padded(node)


def _is_passed(view: GraphView, node: NodeProto) -> bool:
    """Whether pixels pass a node in their layout: scalings and pools."""
    is_scaling = node.op_type in ("Add", "Div", "Mul", "Sub") and not is_join(view, node)
    return is_scaling or _is_plain_pool(node)


def _is_unsigned(view: GraphView, name: str | None) -> bool:
    return name is not None and float(level_function(view.proxies[name]).thresholds().min()) > 0


@IO_REQUIREMENTS.add(
    "class-result",
    why="Loud: FINN's LabelSelect compares integers; a bias or a factor of its own for each class "
    "leaves floats, and its node is not converted.",
    fix="end in a linear layer without bias, with one weight scale for all classes, or in a "
    'quantizer behind it; or take result="logits"',
)
def class_result(view: GraphView) -> Found:
    """With the class as result: logits (1, classes) that are not integers times one scale."""
    if view.result != "class":
        return
    name = view.output
    shape = view.shape(name)
    if len(shape) != 2 or shape[1] < 2:
        yield "model", f"its result has shape {shape}, not (1, classes)"
    elif spacing_of(view, name, shifted=True) is None:
        yield "model", "its result is not integers times one scale"


@IO_REQUIREMENTS.add(
    "integer-result",
    why="Loud: what is left out behind the last integers is one positive factor.",
    fix="end in a linear layer without bias, with one weight scale for all classes, or in a "
    'quantizer behind it; or take result="logits"',
)
def integer_result(view: GraphView) -> Found:
    """With integers as result: logits that are not integers times one positive number."""
    if view.result == "integers" and (spacing_of(view, view.output) or 0) <= 0:
        yield "model", "its result is not integers times one positive number"
