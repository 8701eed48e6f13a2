"""The requirements of hls4ml 1.3, as ``export_hls4ml`` uses it.

The conversion to integer sums itself tells which nodes it refuses, so that the check and the export
cannot disagree.
"""

from __future__ import annotations

from ..errors import ExportError
from .graph_view import GraphView
from .requirement import Find, Found, Requirements

HLS4ML_REQUIREMENTS = Requirements()


def _refused(requirement: str) -> Find:
    """The nodes that the conversion refuses for one reason."""

    def find(view: GraphView) -> Found:
        for refusal in view.refused_nodes:
            if refusal.requirement == requirement:
                yield view.layer(refusal.node).removesuffix(".trunc_quant"), refusal.what

    return find


HLS4ML_REQUIREMENTS.add(
    "unquantized-input",
    why="Loud: the fixed-point types of a layer follow from its integers.",
    fix="let a quantizer be the last thing before the layer (pools and flattening may follow it); "
    "quantize the images too",
)(_refused("unquantized-input"))

HLS4ML_REQUIREMENTS.add(
    "unquantized-weight",
    why="Loud: the fixed-point types of a layer follow from its integers.",
    fix="use a layer of brevitas.nn with a weight quantizer",
)(_refused("unquantized-weight"))

HLS4ML_REQUIREMENTS.add(
    "float-sum",
    why="Loud: only integers of one scale, or of scales that are multiples, have an integer sum.",
    fix="send both summands through one shared signed quantizer, or two of the same scale, before "
    "adding them as plain tensors (this changes the trained function)",
)(_refused("float-sum"))

HLS4ML_REQUIREMENTS.add(
    "float-join",
    why="Loud: only integers are joined, each channel with its scale.",
    fix="send each branch through a quantizer before torch.cat; a batch norm can follow behind it",
)(_refused("float-join"))

HLS4ML_REQUIREMENTS.add(
    "joined-scales",
    why="Loud: only integers of one scale have an integer sum.",
    fix="send all branches through one shared quantizer before torch.cat, or one quantizer behind "
    "it (this changes the trained function)",
)(_refused("joined-scales"))

HLS4ML_REQUIREMENTS.add(
    "branches",
    why="Loud: two branches have only sums of equal shapes, and their channels joined, in hls4ml.",
    fix="use an addition, or torch.cat([a, b], 1)",
)(_refused("branches"))

HLS4ML_REQUIREMENTS.add(
    "truncation",
    why="Loud: hls4ml's types round to levels that are evenly spaced, and have no zero-point.",
    fix='use float_to_int_impl_type="FLOOR", "ROUND" or "CEIL", and a quantizer without zero-point '
    "directly before the truncation",
)(_refused("truncation"))

HLS4ML_REQUIREMENTS.add(
    "unknown-operator",
    why="Loud: it has no exact form in hls4ml's fixed point.",
    fix="use 1-D or 2-D convolutions, linear layers, batch norms, max and average pools, sums and "
    "quantizers",
)(_refused("unknown-operator"))

HLS4ML_REQUIREMENTS.add(
    "dimensions",
    why="Loud: the project's layers are those of images (N, C, H, W), which signals (N, C, L) are "
    "with height 1, and of features (N, C).",
    fix="use 1-D or 2-D convolutions and pools, and flatten before linear layers; leave no other "
    "operator on signals than these, batch norms, quantizers, sums, x.mean(-1) and flattening",
)(_refused("dimensions"))

HLS4ML_REQUIREMENTS.add(
    "pool-form",
    why="Loud: hls4ml's pools have no dilation.",
    fix="use dilation=1",
)(_refused("pool-form"))

HLS4ML_REQUIREMENTS.add(
    "float-average",
    why="Loud: an average is a sum of integers times one scale.",
    fix="quantize directly before the average, with one scale for all channels",
)(_refused("float-average"))

HLS4ML_REQUIREMENTS.add(
    "average-pool",
    why="Loud: the sum of a window stands for its mean only where all windows are divided alike.",
    fix="use ceil_mode=False, and padding=0 or count_include_pad=True",
)(_refused("average-pool"))

HLS4ML_REQUIREMENTS.add(
    "groups",
    why="Loud: hls4ml's convolutions have one group, or one for each channel.",
    fix="use groups=1, or groups equal to the numbers of input and output channels",
)(_refused("groups"))


@HLS4ML_REQUIREMENTS.add(
    "exact-form",
    why="Loud: export_hls4ml stops there.",
    fix="change what the message names; the hardware forms of the package's models have the forms "
    "that are known",
    # The others say more clearly what is wrong.
    alone=True,
)
def exact_form(view: GraphView) -> Found:
    """What stops the conversion otherwise."""
    # hls4ml's flow asks this room.
    from ..hls4ml.hardware_graph import hardware_graph

    try:
        hardware_graph(view.graph)
    except ExportError as error:
        yield "model", str(error)
