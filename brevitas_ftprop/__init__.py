"""Target-propagation quantizers for Brevitas."""

__version__ = "0.1.0"

from . import handlers as handlers
from .convert import SwapReport, restore_quantizers, swap_quantizers
from .quant import *  # noqa: F403
