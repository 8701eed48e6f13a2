"""Error bounds of QONNX's quantizer nodes that are no quantizers of a layer's integers."""

from __future__ import annotations

from typing import Any

import torch

from ..float32 import UNIT
from ..integer_types import integer_range
from ..quant_nodes import quant_levels, rounding_of_node
from .bound_steps import STEPS
from .rounding import Bounded, UnboundedError, exactly


def quant(
    attributes: dict[str, Any], x: Bounded, scale: Bounded, zero_point: Bounded, bits: Bounded
) -> Bounded:
    """A constant that is quantized, such as a bias: exact, since float32 gives one number."""
    if not (x.is_exact and scale.is_exact and zero_point.is_exact):
        raise UnboundedError("Quant of computed values")
    parameters = scale.value.float(), zero_point.value.float()
    function = quant_levels(attributes, *parameters, int(bits.value))
    return exactly(function.dequantize(function.levels(x.value.float())))


def trunc(
    attributes: dict[str, Any],
    x: Bounded,
    scale: Bounded,
    zero_point: Bounded,
    bits: Bounded,
    scale_behind: Bounded,
    bits_behind: Bounded,
) -> Bounded:
    """A truncation: exact integers, where all that its input may be is nearest to one integer."""
    integers = x.value / scale.value + zero_point.value
    nearest = integers.round()
    # Two roundings before the cleaning one.
    reach = x.error / scale.value + 2 * UNIT * (integers.abs() + zero_point.value.abs())
    if bool(((integers - nearest).abs() + reach >= 0.5).any()):
        raise UnboundedError("Trunc of values between two integers")
    step = torch.exp2((scale_behind.value / scale.value).log2().round())
    signed, narrow = bool(attributes["signed"]), bool(attributes["narrow"])
    low, high = integer_range(int(bits_behind.value), signed=signed, narrow=narrow)
    kept = rounding_of_node(attributes)(nearest / step).clamp(low, high)
    centred = exactly((kept - zero_point.value / step).float())
    return STEPS["Mul"]({}, centred, scale_behind)


QUANTIZERS = {"Quant": quant, "Trunc": trunc}
