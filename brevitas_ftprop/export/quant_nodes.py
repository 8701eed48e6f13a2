"""What QONNX's quantizer nodes compute, read from their attributes and constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..levels import ROUNDINGS_BY_NAME, LevelFunction, uniform_levels
from .integer_types import integer_range


def quant_levels(
    attributes: Mapping[str, Any], scale: Tensor, zero_point: Tensor, bits: int
) -> LevelFunction:
    """The levels of a ``Quant`` node.

    Args:
        attributes: ``signed``, ``narrow`` and ``rounding_mode``.
        scale, zero_point: float32, broadcastable to what it quantizes.
        bits: 1 to 32.

    Raises:
        ValueError: for a rounding that is not known.

    >>> attributes = {"signed": 1, "narrow": 1, "rounding_mode": "ROUND"}
    >>> quant_levels(attributes, torch.tensor(0.5), torch.tensor(0.0), 2).level_values
    range(-1, 2)
    """
    is_signed, rounding = bool(attributes["signed"]), rounding_of_node(attributes)
    low, high = integer_range(bits, signed=is_signed, narrow=bool(attributes["narrow"]))
    return LevelFunction(
        uniform_levels(rounding, scale, zero_point, low, high),
        range(low, high + 1),
        scale,
        zero_point,
        bits,
        is_signed,
        rounding is torch.round,
    )


def rounding_of_node(attributes: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    """How a ``Quant`` or ``Trunc`` node rounds.

    Raises:
        ValueError: for a rounding that is not known.
    """
    mode = str(attributes["rounding_mode"]).upper()
    # Brevitas' own name, which QONNX does not know.
    mode = "DOWN" if mode == "ROUND_TO_ZERO" else mode
    if mode not in ROUNDINGS_BY_NAME:
        raise ValueError(f"a rounding by {mode}; known are {', '.join(ROUNDINGS_BY_NAME)}")
    return ROUNDINGS_BY_NAME[mode]
