"""From a trained model to a dataflow accelerator: FINN's compiler, checked against PyTorch.

Nothing here imports FINN or QONNX before it is asked to; ``passes`` does.
"""

from .finn_flow import export_finn
from .finn_report import FinnReport, StepReport

__all__ = ["FinnReport", "StepReport", "export_finn"]
