"""From a trained model to a dataflow accelerator: FINN's compiler, checked against PyTorch.

FINN need not be installed to import this; ``export_finn`` says how to install it.
"""

from .finn_flow import export_finn
from .finn_report import FinnReport, StepReport

__all__ = ["FinnReport", "StepReport", "export_finn"]
