"""FINN's thresholding RTL: a binary search through sorted thresholds, one stage for each bit."""

from __future__ import annotations

from .design import Adapter, stream_design, stream_obstacle

__all__ = ["THRESHOLDING"]

THRESHOLDING = Adapter(obstacle=stream_obstacle, design=stream_design)
