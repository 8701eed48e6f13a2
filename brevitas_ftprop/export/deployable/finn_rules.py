"""The rules of the FINN flow, in one table."""

from __future__ import annotations

from .finn_edges import EDGE_RULES
from .finn_inputs import INPUT_RULES
from .finn_layers import LAYER_RULES
from .finn_numbers import NUMBER_RULES
from .finn_operators import OPERATOR_RULES
from .rule import Rules

__all__ = ["FINN_RULES"]

FINN_RULES: Rules = {
    **EDGE_RULES,
    **OPERATOR_RULES,
    **LAYER_RULES,
    **INPUT_RULES,
    **NUMBER_RULES,
}
