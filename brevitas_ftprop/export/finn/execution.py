"""Run the graphs of any step of the flow in Python."""

from __future__ import annotations

from typing import Any

__all__ = ["HARDWARE", "executable"]

HARDWARE = "finn.custom_op.fpgadataflow"
FORMS = ("rtl", "hls")


def executable(model: Any) -> Any:
    """A copy whose RTL and HLS layers, which want a simulator, are general again.

    The general layers run as FINN's own Python models.
    """
    from qonnx.core.modelwrapper import ModelWrapper

    general = ModelWrapper(model.model, make_deepcopy=True)
    for node in general.graph.node:
        for form in FORMS:
            if node.domain == f"{HARDWARE}.{form}":
                node.op_type = node.op_type.removesuffix(f"_{form}")
                node.domain = HARDWARE
    return general
