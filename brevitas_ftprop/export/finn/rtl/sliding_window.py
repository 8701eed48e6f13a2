"""FINN's sliding-window RTL, which streams depthwise windows channel by channel."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from .design import Adapter, Design, Target, stream_design, stream_obstacle

__all__ = ["SLIDING_WINDOW"]


def _obstacle(op: Any) -> str | None:
    if op.get_nodeattr("depthwise") and op.get_nodeattr("parallel_window"):
        return "depthwise windows streamed whole (parallel_window) are not supported"
    return stream_obstacle(op)


def _design(op: Any, model: Any, folder: Path, target: Target) -> Design:
    design = stream_design(op, model, folder, target)
    if not op.get_nodeattr("depthwise"):
        return design
    simd = op.get_nodeattr("SIMD")
    folds = op.get_nodeattr("IFMChannels") // simd
    window = prod(op.get_nodeattr("ConvKernelDim"))
    *pixels, _, _ = design.sink.shape
    # The tensor holds each window position's channels together; the stream holds each group of
    # SIMD channels' window together.
    before = len(pixels)
    axes = (*range(before), before + 1, before, before + 2)
    return replace(
        design, sink=replace(design.sink, shape=(*pixels, window, folds, simd), axes=axes)
    )


SLIDING_WINDOW = Adapter(obstacle=_obstacle, design=_design)
