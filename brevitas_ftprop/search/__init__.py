"""Targets chosen by looking at the layer above, in ordinary training."""

from .search_targets import TargetSearch, search_targets

__all__ = ["TargetSearch", "search_targets"]
