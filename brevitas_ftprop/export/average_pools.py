"""Average pools that round their size up, in a form that ONNX Runtime computes as PyTorch does."""

from __future__ import annotations

from onnx import ModelProto

from .errors import ExportError
from .layer_names import LAYER
from .node_attributes import integers_in, is_padded, note_of


def make_average_pools_exact(graph: ModelProto) -> None:
    """Count only what lies inside the image where an ``AveragePool`` has ``ceil_mode``, in place.

    PyTorch divides by the part of a window that lies on the padded image. Before opset 19 ONNX
    Runtime divides by the whole window where padding counts, and by the part on the image itself
    where it does not, which without padding is the same as PyTorch's.

    Raises:
        ExportError: if there is padding that counts; names the layer.
    """
    for node in graph.graph.node:
        counts_padding = bool(integers_in(node, "count_include_pad", [0])[0])
        rounds_up = bool(integers_in(node, "ceil_mode", [0])[0])
        if node.op_type != "AveragePool" or not (rounds_up and counts_padding):
            continue
        if is_padded(node):
            layer = note_of(node, LAYER) or node.name
            raise ExportError(
                f"export failed: {layer} is an average pool with ceil_mode whose "
                "padding counts, which QCDQ's operators do not divide as PyTorch does: use "
                "count_include_pad=False or ceil_mode=False, or export to QONNX"
            )
        for attribute in node.attribute:
            if attribute.name == "count_include_pad":
                attribute.i = 0
