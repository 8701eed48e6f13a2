"""The requirements of hls4ml 1.3, as ``export_hls4ml`` uses it: one layer behind the other."""

from __future__ import annotations

from ..errors import ExportError
from ..node_attributes import integers_in
from .finn_operators import KNOWN as FINN_KNOWN
from .finn_quantization import unquantized_input, unquantized_weight
from .graph_view import GraphView
from .requirement import Found, Requirements
from .walk import AVERAGES, is_join

HLS4ML_REQUIREMENTS = Requirements()

# Of the operators that FINN has.
KNOWN = FINN_KNOWN - {*AVERAGES, "Concat", "ConvTranspose", "Resize"}

HLS4ML_REQUIREMENTS.add(
    "unquantized-input",
    why="Loud: the fixed-point types of a layer follow from its integers.",
    fix="let a quantizer be the last thing before the layer (pools and flattening may follow it); "
    "quantize the images too",
)(unquantized_input)

HLS4ML_REQUIREMENTS.add(
    "unquantized-weight",
    why="Loud: the fixed-point types of a layer follow from its integers.",
    fix="use a layer of brevitas.nn with a weight quantizer",
)(unquantized_weight)


@HLS4ML_REQUIREMENTS.add(
    "branches",
    why="Loud: residual and branching models are not exported to hls4ml.",
    fix="use a network of one layer behind the other; sums of two branches (no products, no "
    'concatenations) may go through FINN, check_deployable(…, target="finn") tells',
)
def branches(view: GraphView) -> Found:
    """Sums, products and concatenations of two computed tensors."""
    for node in view.nodes:
        if is_join(view, node):
            yield view.layer(node), f"{node.op_type} joins two branches"


@HLS4ML_REQUIREMENTS.add(
    "unknown-operator",
    why="Loud: it has no exact form in hls4ml's fixed point.",
    fix="use 2-D convolutions, linear layers, batch norms, max pools and quantizers",
)
def unknown_operator(view: GraphView) -> Found:
    """Operators without an exact form: averages, transposed convolutions, Sigmoid, …"""
    for node in view.nodes:
        if node.op_type not in KNOWN and not is_join(view, node):
            yield view.layer(node), f"the operator {node.op_type}"


@HLS4ML_REQUIREMENTS.add(
    "pool-form",
    why="Loud: hls4ml's pools have neither padding (which they would take for zeros) nor dilation, "
    "nor do they round their size up.",
    fix="use padding=0, ceil_mode=False, dilation=1",
)
def pool_form(view: GraphView) -> Found:
    """Max pools with padding, ceil_mode or dilation."""
    for node in view.of_kind("MaxPool"):
        is_odd = any(integers_in(node, "pads", [])) or any(integers_in(node, "ceil_mode", [0]))
        if is_odd or any(step != 1 for step in integers_in(node, "dilations", [])):
            yield view.layer(node), "a max pool with padding, ceil_mode or dilation"


@HLS4ML_REQUIREMENTS.add(
    "groups",
    why="Loud: hls4ml's convolutions have one group.",
    fix="use groups=1",
)
def groups(view: GraphView) -> Found:
    """Grouped and depthwise convolutions."""
    for node in view.of_kind("Conv"):
        if integers_in(node, "group", [1])[0] != 1:
            yield view.layer(node), f"{integers_in(node, 'group', [1])[0]} groups"


@HLS4ML_REQUIREMENTS.add(
    "exact-form",
    why="Loud: export_hls4ml stops there.",
    fix="change what the message names; the hardware forms of the package's models have the forms "
    "that are known",
    # The others say more clearly what is wrong.
    alone=True,
)
def exact_form(view: GraphView) -> Found:
    """What stops the conversion to integer sums."""
    # hls4ml's flow asks this room.
    from ..hls4ml.hardware_graph import hardware_graph

    try:
        hardware_graph(view.graph)
    except ExportError as error:
        yield "model", str(error)
