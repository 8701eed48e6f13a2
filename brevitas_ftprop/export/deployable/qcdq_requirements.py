"""The requirements of QCDQ, standard ONNX with 8-bit integers, beside those of ``untraced``."""

from __future__ import annotations

from ...levels import level_function
from .graph_view import GraphView
from .requirement import Found, Requirements

QCDQ_REQUIREMENTS = Requirements()


@QCDQ_REQUIREMENTS.add(
    "inexact-scale",
    severity="warning",
    why="Silent: sums of such values are rounded in float32, in an order that the runtime chooses, "
    "so integers at a threshold may differ from PyTorch's; verify_export counts them as excused.",
    fix="use a power-of-two scale (…FixedPoint quantizers) where integers have to be equal",
)
def inexact_scale(view: GraphView) -> Found:
    """Activation quantizers whose scale is not a power of two."""
    for name, proxy in view.activations():
        scale = level_function(proxy).scale
        if bool((scale.log2() % 1 != 0).any()):
            yield name, f"its scale is {float(scale.reshape(-1)[0]):.4g}"
