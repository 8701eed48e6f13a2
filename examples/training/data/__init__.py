"""Images: which ones, in which order, and how they are augmented."""

from .module import Images

__all__ = ["Images"]
