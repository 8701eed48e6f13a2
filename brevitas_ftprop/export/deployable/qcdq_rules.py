"""The rules of QCDQ, standard ONNX with 8-bit integers."""

from __future__ import annotations

from ...levels import level_function
from ..quantizers import kind_of
from .graph_view import GraphView
from .rule import Found, Rules, rule

__all__ = ["QCDQ_RULES"]

QCDQ_RULES: Rules = {}

LARGEST_BITS = 8


@rule(
    QCDQ_RULES,
    "bits",
    why="Loud: QuantizeLinear holds integers of 8 bits or fewer here.",
    fix="use bit_width=8 or less, or export to QONNX",
)
def bits(view: GraphView) -> Found:
    """Quantizers of more than 8 bits."""
    for name, proxy in view.proxies.items():
        if kind_of(proxy) is not None and level_function(proxy).bit_width > LARGEST_BITS:
            yield name, f"{level_function(proxy).bit_width} bits"


@rule(
    QCDQ_RULES,
    "shared-weight-quantizer",
    why="Loud: a file holds the integers of each layer, and a shared quantizer has several.",
    fix="give each layer a weight quantizer of its own",
)
def shared_weight_quantizer(view: GraphView) -> Found:
    """Weight quantizers that several layers share."""
    for name, proxy in view.weights():
        count = len(proxy.tracked_parameter_list)
        if count > 1:
            yield name, f"{count} layers share this quantizer"


@rule(
    QCDQ_RULES,
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
