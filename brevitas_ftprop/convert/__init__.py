"""Swap the quantizers of a live Brevitas model to a target rule, and back."""

from .report import SwapReport
from .swap import restore_quantizers, swap_quantizers

__all__ = ["SwapReport", "restore_quantizers", "swap_quantizers"]
