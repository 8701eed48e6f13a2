"""Simulate a whole accelerator: FINN's RTL in Verilator, C++ models of HLS layers, and FIFOs."""

from .accelerator_report import AcceleratorReport, FifoUse, NodeUse
from .diagnosis import Fault
from .fifo_sizing import FifoSizing, size_fifos
from .whole_simulation import simulate_accelerator

__all__ = [
    "AcceleratorReport",
    "Fault",
    "FifoSizing",
    "FifoUse",
    "NodeUse",
    "simulate_accelerator",
    "size_fifos",
]
