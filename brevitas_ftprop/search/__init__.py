"""Targets chosen by looking at the layer above, and layers trained for them."""

from .black_box import BlackBox
from .layerwise import train_layerwise
from .search_targets import TargetSearch, search_targets

__all__ = ["BlackBox", "TargetSearch", "search_targets", "train_layerwise"]
