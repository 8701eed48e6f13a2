"""Export to QONNX and QCDQ files and to FINN, and proof that they compute what was trained."""

from .deployable import DeployReport, Finding, check_deployable
from .errors import ExportError, MissingToolError, VerificationError
from .finn import FinnReport, export_finn
from .finn.rtl import RtlReport, simulate_rtl
from .hls4ml import Hls4mlReport, LayerReport, export_hls4ml
from .qcdq import export_qcdq
from .qonnx import export_qonnx
from .verification.verify_report import Excused, OutputReport, QuantizerReport, VerifyReport
from .verify import verify_export

__all__ = [
    "DeployReport",
    "Excused",
    "ExportError",
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
    "simulate_rtl",
    "verify_export",
]
