"""FINN's sliding-window RTL, which streams depthwise windows channel by channel."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from qonnx.core.modelwrapper import ModelWrapper

from .design import Adapter, Design, DeviceTarget, attribute, stream_design, stream_obstacle

if TYPE_CHECKING:
    from finn.custom_op.fpgadataflow.hwcustomop import HWCustomOp


def _obstacle(op: HWCustomOp) -> str | None:
    if attribute(op, "depthwise") and attribute(op, "parallel_window"):
        return "depthwise windows streamed whole (parallel_window) are not supported"
    return stream_obstacle(op)


def _design(op: HWCustomOp, model: ModelWrapper, folder: Path, target: DeviceTarget) -> Design:
    design = stream_design(op, model, folder, target)
    if not attribute(op, "depthwise"):
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


SLIDING_WINDOW = Adapter(obstacle=_obstacle, design=_design)
