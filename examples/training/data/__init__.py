"""Images: which ones, in which order, and how they are augmented."""

from .images import Images

__all__ = ["Images"]
