"""FINN: where maps become features."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto

from .finn_layers import is_quantized_behind
from .graph_view import GraphView
from .requirement import Found, Requirements
from .walk import AFFINE, AVERAGES, WEIGHTED, feeding_nodes, integers_of, is_join

FLATTENING_REQUIREMENTS = Requirements()


@FLATTENING_REQUIREMENTS.add(
    "reshape",
    why="Loud: FINN flattens maps for a linear layer; it has no hardware layer for values in "
    "another order of axes.",
    fix="flatten (N, C, H, W) to (N, F) for a linear layer, and go back to maps by no reshape: let "
    "convolutions, pools and nearest upsampling give the sizes",
)
def reshape(view: GraphView) -> Found:
    """Reshapes that are no flattening to (N, F)."""
    for node in view.of_kind("Reshape", "Flatten"):
        before, after = view.shape(node.input[0]), view.shape(node.output[0])
        is_signal = 3 in (len(before), len(after))
        if before and len(after) > 2 and before != after and not is_signal:
            yield view.layer(node), f"a reshape of {tuple(before)} to {tuple(after)}"


@FLATTENING_REQUIREMENTS.add(
    "joined-flattening",
    why="Loud: FINN's layers are channels last; it turns the weights of the one linear layer "
    "behind a flattening, and of joined features and averages it knows no such layer.",
    fix="join the maps before they are averaged or flattened, where they have one size; or give "
    "each flattening a linear layer of its own and add their results, self.fc1(a.flatten(1)) + "
    "self.fc2(b.flatten(1)), which is one layer on both joined; or put a linear layer and one "
    "shared quantizer between",
)
def joined_flattening(view: GraphView) -> Found:
    """Flattened maps that are added or joined before a layer reads them, or averages."""
    for node in view.of_kind("Flatten", "Reshape", "ReduceMean"):
        before, after = view.shape(node.input[0]), view.shape(node.output[0])
        if len(before) != 4 or len(after) != 2:
            continue
        is_average = before[2:] == [1, 1] or node.op_type in AVERAGES
        kind = "averages of maps" if is_average else "flattened maps"
        for join in _joins_behind(view, node.output[0]):
            yield view.layer(join), f"it joins {kind}"
        first = [*_features_before(view, node.input[0])][-1:]
        if is_average and first and first[0].op_type == "Concat":
            branches = [_features_before(view, branch) for branch in first[0].input]
            if any(n.op_type in AVERAGES for nodes in branches for n in nodes):
                yield view.layer(first[0]), "it joins averages of maps that are flattened behind it"


def _joins_behind(view: GraphView, name: str) -> Iterator[NodeProto]:
    """The additions and concatenations that a tensor reaches before a layer with weights."""
    for node in view.consumers(name):
        if node.op_type in ("Add", "Concat") and is_join(view, node):
            yield node
        elif node.op_type not in WEIGHTED:
            yield from _joins_behind(view, node.output[0])


def _features_before(view: GraphView, name: str) -> Iterator[NodeProto]:
    """The nodes between a tensor and the layer or join before it, the join included."""
    while (node := view.producer(name)) is not None and node.op_type not in WEIGHTED:
        yield node
        if is_join(view, node):
            return
        name = view.computed_inputs(node)[0]


@FLATTENING_REQUIREMENTS.add(
    "flattened-sum",
    why="Loud: FINN flattens integers only. Thresholds behind the flattening of a map would be "
    "those of channels that are mixed with positions, unless all are the same.",
    fix="quantize before flattening, or directly behind it with one scale; a BatchNorm1d behind it "
    "goes behind the linear layer",
)
def flattened_sum(view: GraphView) -> Found:
    """Flattening of maps that no quantizer has made integers; an image may be reshaped."""
    for node in view.of_kind("Flatten", "Reshape"):
        before, after = view.shape(node.input[0]), view.shape(node.output[0])
        is_mixed = len(before) == 4 and len(after) == 2 and before[2:] != [1, 1]
        # FINN leaves a Flatten of the image to software, and drops a Reshape.
        is_image = view.producer(node.input[0]) is None and node.op_type == "Reshape"
        is_read = bool(view.consumers(node.output[0])) and not is_image
        is_read &= node not in view.absorbed
        if is_mixed and is_read and integers_of(view, node.input[0], shifted=True) is None:
            yield view.layer(node), "the flattened map is not quantized"


@FLATTENING_REQUIREMENTS.add(
    "forked-flattening",
    why="Loud: FINN moves its Transpose into one layer behind the flattening; the others get no "
    "input, and their results differ.",
    fix="put a linear layer and its quantizer between the flattening and the fork",
)
def forked_flattening(view: GraphView) -> Found:
    """Maps whose flattened values several layers read."""
    for node in view.of_kind("Flatten", "Reshape"):
        if len(view.shape(node.input[0])) != 4:
            continue
        twins = [n for n in view.consumers(node.input[0]) if n.op_type == node.op_type]
        if len(view.consumers(node.output[0])) > 1 or len(twins) > 1:
            yield view.layer(node), "several layers read the flattened map"


@FLATTENING_REQUIREMENTS.add(
    "flattened-average",
    why="Loud: the average's scale keeps the shape of a map, and FINN refuses the mismatch.",
    fix="quantize directly behind the average or its flattening, with one scale for all channels, "
    "or leave the quantizer out: averages of integers are integers",
)
def flattened_average(view: GraphView) -> Found:
    """Global averages that are flattened, and quantized with other steps for each channel."""
    for node in view.of_kind("Flatten", "Reshape", "ReduceMean"):
        averages = [n.op_type for n in feeding_nodes(view, node.output[0]) if n.op_type in AVERAGES]
        is_flat = len(view.shape(node.output[0])) == 2
        if averages and is_flat and is_quantized_behind(view, node, *AFFINE):
            yield view.layer(node), "a flattened average goes into a quantizer"
