"""A float network becomes a Brevitas model that maps to FINN, in one call.

float_graph → placement → ranges → modules → quantize_report, put together in for_finn
"""

from .for_finn import quantize_for_finn
from .quantize_report import Insertion, QuantizeReport

__all__ = ["Insertion", "QuantizeReport", "quantize_for_finn"]
