"""Which nodes can be simulated and how, and why the others cannot."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper

from ..execution import HARDWARE
from .design import Adapter, Design, DeviceTarget, attribute, stream_design, stream_obstacle
from .streams import memory_words

if TYPE_CHECKING:
    from finn.custom_op.fpgadataflow.hwcustomop import HWCustomOp

# The modes in which FINN writes a matrix-vector unit's weights into a file.
STORED = ("internal_decoupled", "external")
WEIGHT_FILE = "memblock.dat"


def _window_obstacle(op: HWCustomOp) -> str | None:
    is_whole = attribute(op, "depthwise") and attribute(op, "parallel_window")
    if is_whole and attribute(op, "SIMD") < attribute(op, "IFMChannels"):
        return "whole depthwise windows (parallel_window) of some channels each are not supported"
    return stream_obstacle(op)


def _window_design(op: HWCustomOp, *given: Any) -> Design:
    """Of a sliding window, which streams depthwise windows channel by channel."""
    design = stream_design(op, *given)
    if not attribute(op, "depthwise") or attribute(op, "parallel_window"):
        return design
    simd = attribute(op, "SIMD")
    folds = attribute(op, "IFMChannels") // simd
    window = prod(attribute(op, "ConvKernelDim"))
    *pixels, _, _ = design.sink.shape
    # The tensor holds each window position's channels together; the stream holds each group of
    # SIMD channels' window together.
    before = len(pixels)
    axes = (*range(before), before + 1, before, before + 2)
    return replace(
        design, sink=replace(design.sink, shape=(*pixels, window, folds, simd), axes=axes)
    )


def _matrix_obstacle(op: HWCustomOp) -> str | None:
    if attribute(op, "mem_mode") not in STORED:
        return f"weights in mem_mode {attribute(op, 'mem_mode')} are not supported"
    if attribute(op, "TH") > 1:
        return "the tiled matrix-vector unit (TH > 1) is not supported"
    if attribute(op, "pumpedMemory"):
        return "weight memories with a doubled clock (pumpedMemory) are not supported"
    if not attribute(op, "noActivation"):
        return "the RTL has no activation of its own (noActivation = 0)"
    return stream_obstacle(op)


def _matrix_design(
    op: HWCustomOp, model: ModelWrapper, folder: Path, target: DeviceTarget
) -> Design:
    """Of a matrix-vector unit, its weights streamed in as its memory would."""
    design = stream_design(op, model, folder, target)
    weights = memory_words((folder / WEIGHT_FILE).read_text(), op.get_instream_width(1))
    return replace(design, weights=weights, doubled_clock=True)


def _padding_design(*given: Any) -> Design:
    """Of padding, which streams the zeros above an image before it has seen the image."""
    return replace(stream_design(*given), runs_ahead=True)


ADAPTERS = {
    "ConvolutionInputGenerator_rtl": Adapter(_window_obstacle, _window_design),
    "FMPadding_rtl": Adapter(stream_obstacle, _padding_design),
    "MVAU_rtl": Adapter(_matrix_obstacle, _matrix_design),
    "Thresholding_rtl": Adapter(stream_obstacle, stream_design),
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
