"""Swap the quantizers of a live Brevitas model to a target rule, and back.

Importing this makes the proxies of what is swapped known to Brevitas' managers.
"""

from .. import handlers as handlers
from .report import SwapReport
from .swap import restore_quantizers, swap_quantizers

__all__ = ["SwapReport", "restore_quantizers", "swap_quantizers"]
