"""FINN: activations, pools and joins in forms that the flow's passes and orders take."""

from __future__ import annotations

from collections import Counter

from onnx import NodeProto

from ...levels import level_function
from ..node_attributes import integers_in, is_padded, padding_of
from .graph_view import GraphView
from .requirement import Found, Requirements
from .walk import (
    AFFINE,
    WEIGHTED,
    feeding_nodes,
    integers_of,
    is_join,
    reads_twice,
    spacing_of,
)

LAYER_REQUIREMENTS = Requirements()


@LAYER_REQUIREMENTS.add(
    "loose-relu",
    why="Loud: a ReLU is part of a quantizer's thresholds, or it has no hardware layer.",
    fix="put an unsigned quantizer directly behind it (QuantReLU), or leave it out behind one",
)
def loose_relu(view: GraphView) -> Found:
    """ReLUs whose result something else than one quantizer reads, max pools between apart."""
    for node in view.of_kind("Relu"):
        is_absorbed = node in view.absorbed or node.output[0] == view.output
        if not is_absorbed and not is_quantized_behind(view, node):
            yield view.layer(node), "a ReLU that no quantizer follows"


@LAYER_REQUIREMENTS.add(
    "image-result",
    why="Loud: the result's scale keeps the shape of the image, and FINN refuses the mismatch.",
    fix="end the network in a linear layer behind the flattening",
)
def image_result(view: GraphView) -> Found:
    """Flattening behind the last layer with weights; the class of an average's logits has none."""
    for node in feeding_nodes(view, view.output):
        is_class = view.shape(node.input[0])[2:] == [1, 1] and view.io.result == "class"
        if node.op_type in ("Flatten", "Reshape") and not is_class:
            yield view.layer(node), "the result is flattened behind its last layer"


@LAYER_REQUIREMENTS.add(
    "same-operands",
    why="Loud: qonnx's cleanup renames one of the two operands only, and the file is damaged; "
    "factors move behind a concatenation, so that it, too, would read one tensor twice.",
    fix="instead of adding a tensor to itself multiply it by 2, best in the scale of the quantizer "
    "before; in a concatenation join each tensor once, torch.cat([a, b], 1) for "
    "torch.cat([a, b, a], 1), the weights of the layer behind it added up; or quantize each "
    "branch, torch.cat([self.act(a), self.act(-1.0 * a)], 1)",
)
def same_operands(view: GraphView) -> Found:
    """Operators that read one tensor twice, such as x + x, or join it with a multiple of itself."""
    for node in view.graph.graph.node:
        if reads_twice(view, node):
            yield view.layer(node), f"{node.op_type} reads one tensor twice"
        elif node.op_type == "Concat":
            sources = [_before_affine(view, name) for name in node.input]
            if len(set(sources)) < len(sources):
                yield view.layer(node), "Concat joins one tensor with a multiple of itself"


def _before_affine(view: GraphView, name: str) -> str:
    """What the factors and summands that give a tensor are applied to."""
    while (node := view.producer(name)) is not None and node.op_type in AFFINE:
        if view.quantizer(node) is not None or is_join(view, node):
            break
        name = view.computed_inputs(node)[0]
    return name


@LAYER_REQUIREMENTS.add(
    "shared-layer",
    why="Loud: the dynamo exporter writes the weights once, and FINN takes one layer a weight.",
    fix="export with dynamo=False, or give each call a layer of its own",
)
def shared_layer(view: GraphView) -> Found:
    """Layers with weights that are called more than once."""
    calls = Counter(node.input[1] for node in view.nodes if view.weight_quantizer(node))
    for node in view.nodes:
        if len(node.input) > 1 and (count := calls.pop(node.input[1], 0)) > 1:
            yield view.layer(node), f"it is called {count} times"


@LAYER_REQUIREMENTS.add(
    "tiny-map",
    why="Loud: where a map is one row or column, qonnx takes the convolution for one of one "
    "dimension, and the streamlined graph cannot be run.",
    fix="use kernel 1 and padding 0 there, fewer strides and pools, or larger images",
)
def tiny_map(view: GraphView) -> Found:
    """Convolutions of more than one row or column on a map that has only one."""
    for node in view.of_kind("Conv"):
        kernel, pads = integers_in(node, "kernel_shape", [1, 1]), integers_in(node, "pads", [0] * 4)
        before, source = view.producer(node.input[0]), node.input[0]
        if before is not None and before.op_type == "Pad":
            source = before.input[0]
            pads = padding_of(before, view.constant(before.input[1])) or pads
        sizes = view.shape(source)[2:]
        for size, window, pad in zip(sizes, kernel, pads, strict=False):
            if len(sizes) == 2 and size == 1 and (window > 1 or pad > 0):
                yield view.layer(node), f"a window of {window}, padded, on a map of size 1"
                break


@LAYER_REQUIREMENTS.add(
    "padded-signed-pool",
    why="Loud: FINN pads pools with 0, which is larger than negative values, and refuses to.",
    fix="quantize directly before or behind the pool, in a quantizer of its own if the values are "
    "read elsewhere too; or use padding=0",
)
def padded_signed_pool(view: GraphView) -> Found:
    """Padded max pools of signed values that no quantizer of theirs stands beside."""
    for node in view.of_kind("MaxPool"):
        if not is_padded(node) or is_quantized_behind(view, node):
            continue
        name = view.activation_quantizer(node.input[0])
        is_own = name is not None and len(view.consumers(node.input[0])) == 1
        if is_own or _is_unsigned(view, node.input[0]):
            continue
        yield view.layer(node), "a padded max pool of signed or unquantized values"


@LAYER_REQUIREMENTS.add(
    "pooled-sum",
    why="Loud: the scales of the summands do not move past a pool, which then has float values and "
    "no hardware layer.",
    fix="quantize the sum before or behind the pool",
)
def pooled_sum(view: GraphView) -> Found:
    """Max pools of a sum of two branches that no quantizer follows."""
    for node in view.of_kind("MaxPool"):
        if not is_quantized_behind(view, node):
            first = [node, *feeding_nodes(view, node.input[0])][-1]
            if first.op_type == "Add" and is_join(view, first):
                yield view.layer(node), f"a max pool of the sum of {view.layer(first)}"


@LAYER_REQUIREMENTS.add(
    "float-pool",
    why="Loud: FINN pools integers; a max pool of floats has no hardware layer.",
    fix="quantize before the pool, or behind it in one quantizer that all readers share",
)
def float_pool(view: GraphView) -> Found:
    """Max pools of batch norms' results, or of sums that fork, that no quantizer follows."""
    for node in view.of_kind("MaxPool"):
        if is_quantized_behind(view, node):
            continue
        name, is_forked = node.input[0], len(view.consumers(node.output[0])) > 1
        integers, spacing = integers_of(view, name), spacing_of(view, name)
        is_float = integers is None and spacing is None and not _is_sum(view, name)
        if is_float or (is_forked and (integers is None or spacing is None)):
            yield view.layer(node), "a max pool of values that are not quantized"


def _is_sum(view: GraphView, name: str) -> bool:
    """Whether a layer without bias gives a tensor, of any scales, pools between apart."""
    while (node := view.producer(name)) is not None and node.op_type == "MaxPool":
        name = node.input[0]
    return node is not None and node.op_type in WEIGHTED and len(node.input) == 2


def is_quantized_behind(view: GraphView, node: NodeProto, *passed: str) -> bool:
    """Whether one quantizer alone reads a node's result, pools, ReLUs and others between apart."""
    behind = view.consumers(node.output[0])
    while len(behind) == 1 and behind[0].op_type in ("MaxPool", "Relu", *passed):
        behind = view.consumers(behind[0].output[0])
    return len(behind) == 1 and view.quantizer(behind[0]) is not None


def _is_unsigned(view: GraphView, name: str) -> bool:
    integers = integers_of(view, name)
    if integers is None or integers.factor < 0:
        return False
    functions = [level_function(view.proxies[name]) for name in integers.quantizers]
    if not functions:
        return view.io.ends[0] >= 0
    return all(f.level_values[0] >= 0 and not bool(f.zero_point.any()) for f in functions)
