"""Export to QONNX and QCDQ files and to FINN, and proof that they compute what was trained."""

from .errors import ExportError, VerificationError
from .finn import FinnReport, export_finn
from .qcdq import export_qcdq
from .qonnx import export_qonnx
from .verification.report import Excused, OutputReport, QuantizerReport, VerifyReport
from .verify import verify_export

__all__ = [
    "Excused",
    "ExportError",
    "FinnReport",
    "OutputReport",
    "QuantizerReport",
    "VerificationError",
    "VerifyReport",
    "export_finn",
    "export_qcdq",
    "export_qonnx",
    "verify_export",
]
