"""Target-propagation gradients for Brevitas quantizers, and ONNX that computes what was trained.

Each name is imported when it is asked for, so that the command line's help waits for neither torch
nor Brevitas. What makes target-prop quantizers also registers their proxies with Brevitas' export
and inference managers.

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

from . import quiet_imports as quiet_imports

if TYPE_CHECKING:
    from . import handlers, quant, traced_quant_tensor
    from .algorithm1 import FTPROPClassifier
    from .convert import SwapReport, restore_quantizers, swap_quantizers
    from .export import (
        DeployReport,
        VerifyReport,
        check_deployable,
        export_finn,
        export_hls4ml,
        export_qcdq,
        export_qonnx,
        simulate_accelerator,
        simulate_rtl,
        size_fifos,
        verify_export,
    )
    from .monitor import Monitor
    from .proxy import advance_rules
    from .quantize import QuantizeReport, quantize_for_finn
    from .rules import RULES, Rule, get_rule, register
    from .runs.run_folder import LoadedRun, load_run
    from .search import BlackBox, search_targets, train_layerwise

__version__ = "0.1.0"

__all__ = [
    "RULES",
    "BlackBox",
    "DeployReport",
    "FTPROPClassifier",
    "LoadedRun",
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
    "load_run",
    "quant",
    "quantize_for_finn",
    "register",
    "restore_quantizers",
    "search_targets",
    "simulate_accelerator",
    "simulate_rtl",
    "size_fifos",
    "swap_quantizers",
    "traced_quant_tensor",
    "train_layerwise",
    "verify_export",
]

HOMES = {
    "algorithm1": ("FTPROPClassifier",),
    "convert": ("SwapReport", "restore_quantizers", "swap_quantizers"),
    "export": (
        "DeployReport",
        "VerifyReport",
        "check_deployable",
        "export_finn",
        "export_hls4ml",
        "export_qcdq",
        "export_qonnx",
        "simulate_accelerator",
        "simulate_rtl",
        "size_fifos",
        "verify_export",
    ),
    "monitor": ("Monitor",),
    "proxy": ("advance_rules",),
    "quantize": ("QuantizeReport", "quantize_for_finn"),
    "rules": ("RULES", "Rule", "get_rule", "register"),
    "runs.run_folder": ("LoadedRun", "load_run"),
    "search": ("BlackBox", "search_targets", "train_layerwise"),
}
MODULES = {"handlers", "quant", "targets", "traced_quant_tensor", *HOMES}


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return import_module(f".{name}", __name__)
    for home, names in HOMES.items():
        if name in names:
            return getattr(import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
