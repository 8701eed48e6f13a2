"""Diagnostics of target propagation: what each quantizer's targets, margins and gradients do."""

from .feasibility import feasible_share
from .monitor import Monitor
from .statistics import MARGIN_EDGES, METRICS

__all__ = ["MARGIN_EDGES", "METRICS", "Monitor", "feasible_share"]
