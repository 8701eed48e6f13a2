"""What the quantizers of a network are chosen from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ..models.layers import INTEGER_BITS, STEP_QUANTIZERS
from ..ops import check_options

WEIGHT_BITS = range(1, 9)
SIGNED_BITS = range(2, 9)
OUTER_BITS = 8
# Of signed quantizers beside activations that are no uniform integers.
STEP_SIGNED_BITS = 4


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The options of ``quantize_for_finn``, checked; see there.

    Raises:
        ValueError: for an unknown value, named with the valid ones.

    >>> Choices(act="int4").inner_signed_bits
    5
    """

    act: str = "int4"
    weight_bits: int = 4
    rule: str = "soft_hinge"
    weight_rule: str = "ste"
    weight_scale: str = "channel"
    signed_bits: int | None = None
    power_of_two: bool = False
    quantize_output: bool = False

    def __post_init__(self) -> None:
        names = [*STEP_QUANTIZERS, *INTEGER_BITS]
        _check("act", self.act, names)
        _check("weight_bits", self.weight_bits, WEIGHT_BITS)
        _check("weight_scale", self.weight_scale, ("tensor", "channel"))
        _check("signed_bits", self.signed_bits, (None, *SIGNED_BITS))
        _check("power_of_two", self.power_of_two, (False, True))
        _check("quantize_output", self.quantize_output, (False, True))
        for rule in (self.rule, self.weight_rule):
            check_options(rule, "grad", "single")

    @property
    def form(self) -> str:
        """The form of ``brevitas_ftprop.models`` whose quantizers have such scales."""
        return "hardware" if self.power_of_two else "paper"

    @property
    def inner_signed_bits(self) -> int:
        """Bits of the signed quantizers between layers: the activations' and one for the sign."""
        if self.signed_bits is not None:
            return self.signed_bits
        return min(INTEGER_BITS[self.act] + 1, 8) if self.act in INTEGER_BITS else STEP_SIGNED_BITS


def _check(name: str, value: Any, valid: Collection[Any]) -> None:
    # True equals 1, and a list is in no range.
    if not any(value is one or (type(value) is type(one) and value == one) for one in valid):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, valid))}, not {value!r}")
