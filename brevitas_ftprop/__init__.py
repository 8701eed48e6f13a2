"""Target-propagation gradients for Brevitas quantizers, and ONNX that computes what was trained.

Importing the package registers its quantizer proxies with Brevitas' export and inference managers.

>>> import brevitas.nn as qnn, torch
>>> from brevitas.quant import SignedBinaryActPerTensorConst
>>> import brevitas_ftprop
>>> model = torch.nn.Sequential(qnn.QuantIdentity(SignedBinaryActPerTensorConst))
>>> report = brevitas_ftprop.swap_quantizers(model, "soft_hinge")
>>> model[0].act_quant.rule
'soft_hinge'

References:
    Friesen & Domingos, Deep Learning as a Mixed Convex-Combinatorial Optimization Problem,
    ICLR 2018, arXiv:1710.11573.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import algorithm1, export, handlers, quant, traced_quant_tensor
from .convert import SwapReport, restore_quantizers, swap_quantizers
from .monitor import Monitor
from .proxy import advance_rules
from .rules import RULES, Rule, get_rule, register
from .search import BlackBox, search_targets, train_layerwise

if TYPE_CHECKING:
    from .algorithm1 import FTPROPClassifier
    from .export import (
        DeployReport,
        VerifyReport,
        check_deployable,
        export_finn,
        export_hls4ml,
        export_qcdq,
        export_qonnx,
        simulate_rtl,
        verify_export,
    )
    from .quantize import QuantizeReport, quantize_for_finn

__version__ = "0.1.0"

__all__ = [
    "RULES",
    "BlackBox",
    "DeployReport",
    "FTPROPClassifier",
    "Monitor",
    "QuantizeReport",
    "Rule",
    "SwapReport",
    "VerifyReport",
    "__version__",
    "advance_rules",
    "check_deployable",
    "export_finn",
    "export_hls4ml",
    "export_qcdq",
    "export_qonnx",
    "get_rule",
    "handlers",
    "quant",
    "quantize_for_finn",
    "register",
    "restore_quantizers",
    "search_targets",
    "simulate_rtl",
    "swap_quantizers",
    "traced_quant_tensor",
    "train_layerwise",
    "verify_export",
]

# The package of their own imports Brevitas' graph tools.
QUANTIZE = ("QuantizeReport", "quantize_for_finn")


def __getattr__(name: str) -> Any:
    """Names of packages that import them, and what they need, when they are asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in QUANTIZE:
        return getattr(import_module(".quantize", __name__), name)
    return getattr(algorithm1 if name in algorithm1.__all__ else export, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
