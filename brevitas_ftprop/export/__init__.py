"""Export to QONNX and QCDQ, to FINN and hls4ml, and proof that it computes what was trained.

Each name is imported when it is asked for, with the compilers and exporters that it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import ExportError, MissingToolError, VerificationError

if TYPE_CHECKING:
    from .deployable import DeployReport, Finding, check_deployable
    from .finn import FinnReport, export_finn
    from .finn.accelerator import (
        AcceleratorReport,
        FifoSizing,
        simulate_accelerator,
        size_fifos,
    )
    from .finn.rtl import RtlReport, simulate_rtl
    from .hls4ml import Hls4mlReport, LayerReport, export_hls4ml
    from .qcdq import export_qcdq
    from .qonnx import export_qonnx
    from .verification.verify_report import Excused, OutputReport, QuantizerReport, VerifyReport
    from .verify import verify_export

__all__ = [
    "AcceleratorReport",
    "DeployReport",
    "Excused",
    "ExportError",
    "FifoSizing",
    "Finding",
    "FinnReport",
    "Hls4mlReport",
    "LayerReport",
    "MissingToolError",
    "OutputReport",
    "QuantizerReport",
    "RtlReport",
    "VerificationError",
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
]

HOMES = {
    "deployable": ("DeployReport", "Finding", "check_deployable"),
    "finn": ("FinnReport", "export_finn"),
    "finn.accelerator": (
        "AcceleratorReport",
        "FifoSizing",
        "simulate_accelerator",
        "size_fifos",
    ),
    "finn.rtl": ("RtlReport", "simulate_rtl"),
    "hls4ml": ("Hls4mlReport", "LayerReport", "export_hls4ml"),
    "qcdq": ("export_qcdq",),
    "qonnx": ("export_qonnx",),
    "verification.verify_report": ("Excused", "OutputReport", "QuantizerReport", "VerifyReport"),
    "verify": ("verify_export",),
}


def __getattr__(name: str) -> Any:
    for home, names in HOMES.items():
        if name in names:
            return getattr(import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
