"""How the gradients are computed; :mod:`.eager` is the meaning that every backend must equal."""

from .eager import STAIRCASE_FORMS, clip_margin, staircase_gradient, unit_gradient

__all__ = ["STAIRCASE_FORMS", "clip_margin", "staircase_gradient", "unit_gradient"]
