"""Export to hls4ml, compared with PyTorch in hls4ml's C simulation.

The graph transformations are in ``integer_sums`` and ``threshold_quant``; they need qonnx only.
"""

from .hls4ml_flow import export_hls4ml
from .hls4ml_report import Hls4mlReport, LayerReport

__all__ = ["Hls4mlReport", "LayerReport", "export_hls4ml"]
