"""Simulate the RTL of a FINN partition with Verilator and compare it with the executor."""

from .rtl_report import NodeReport, RtlReport
from .simulation import simulate_rtl

__all__ = ["NodeReport", "RtlReport", "simulate_rtl"]
