"""FINN's padding RTL, which streams the zeros above an image before it has seen the image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from .design import Adapter, Design, Target, stream_design, stream_obstacle

__all__ = ["PADDING"]


def _design(op: Any, model: Any, folder: Path, target: Target) -> Design:
    return replace(stream_design(op, model, folder, target), runs_ahead=True)


PADDING = Adapter(obstacle=stream_obstacle, design=_design)
