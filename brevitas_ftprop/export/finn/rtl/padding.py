"""FINN's padding RTL, which streams the zeros above an image before it has seen the image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qonnx.core.modelwrapper import ModelWrapper

from .design import Adapter, Design, Target, stream_design, stream_obstacle

if TYPE_CHECKING:
    from finn.custom_op.fpgadataflow.hwcustomop import HWCustomOp

__all__ = ["PADDING"]


def _design(op: HWCustomOp, model: ModelWrapper, folder: Path, target: Target) -> Design:
    return replace(stream_design(op, model, folder, target), runs_ahead=True)


PADDING = Adapter(obstacle=stream_obstacle, design=_design)
