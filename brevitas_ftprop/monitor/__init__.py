"""Diagnostics of target propagation: what each quantizer's targets, margins and gradients do."""

from .feasibility import feasible_share
from .metrics import MARGIN_EDGES, METRICS
from .monitor import Monitor

__all__ = ["MARGIN_EDGES", "METRICS", "Monitor", "feasible_share"]
