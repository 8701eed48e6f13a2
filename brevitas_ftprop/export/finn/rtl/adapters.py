"""Which nodes can be simulated, and why the others cannot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from onnx import NodeProto

from ..execution import HARDWARE
from .design import Adapter, Design, stream_design, stream_obstacle
from .mvu import MVU
from .sliding_window import SLIDING_WINDOW


def _ahead(*given: Any) -> Design:
    """Of padding, which streams the zeros above an image before it has seen the image."""
    return replace(stream_design(*given), runs_ahead=True)


PADDING = Adapter(obstacle=stream_obstacle, design=_ahead)
THRESHOLDING = Adapter(obstacle=stream_obstacle, design=stream_design)
ADAPTERS: dict[str, Adapter] = {
    "ConvolutionInputGenerator_rtl": SLIDING_WINDOW,
    "FMPadding_rtl": PADDING,
    "MVAU_rtl": MVU,
    "Thresholding_rtl": THRESHOLDING,
}


def adapter_of(node: NodeProto) -> Adapter | None:
    """The adapter of a node's operator, or None."""
    return ADAPTERS.get(node.op_type) if node.domain == f"{HARDWARE}.rtl" else None


def reason_for(node: NodeProto) -> str | None:
    """Why no node of this operator is simulated, or None.

    >>> from onnx.helper import make_node
    >>> reason_for(make_node("Pool_hls", [], [], domain="finn.custom_op.fpgadataflow.hls"))
    'HLS only: FINN writes C++ for it, which needs Vitis HLS'
    """
    if adapter_of(node) is not None:
        return None
    if node.domain == f"{HARDWARE}.hls":
        return "HLS only: FINN writes C++ for it, which needs Vitis HLS"
    if node.domain == f"{HARDWARE}.rtl":
        return f"RTL, but {node.op_type} nodes are not supported"
    if node.domain.startswith(HARDWARE):
        return "neither RTL nor HLS yet"
    return "not a hardware node"
