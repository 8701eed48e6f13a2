"""Brevitas tensor-quant modules whose gradients follow a target rule.

Each stands where a stock module stands, takes the same injected arguments plus ``rule``,
``weighting``, ``staircase`` and ``saved``, keeps the same children, and returns the same tuple;
forward values equal the stock module's.
"""

from .binary import TargetPropBinaryQuant
from .fused_relu import TargetPropFusedActivation, fuse_relu
from .integer import (
    ROUNDINGS,
    TargetPropIntQuant,
    TargetPropRescalingIntQuant,
    is_integer_quantizer,
    rounding_of,
)
from .rule_options import OPTIONS, rule_holder
from .staircase import TargetPropStaircaseQuant
from .step_of import step_of
from .ternary import TargetPropTernaryQuant

__all__ = [
    "OPTIONS",
    "ROUNDINGS",
    "TargetPropBinaryQuant",
    "TargetPropFusedActivation",
    "TargetPropIntQuant",
    "TargetPropRescalingIntQuant",
    "TargetPropStaircaseQuant",
    "TargetPropTernaryQuant",
    "fuse_relu",
    "is_integer_quantizer",
    "rounding_of",
    "rule_holder",
    "step_of",
]
