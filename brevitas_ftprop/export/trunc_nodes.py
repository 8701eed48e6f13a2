"""What QONNX's ``Trunc`` nodes compute, and which of them FINN's average pool computes too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from .node_attributes import attribute_values, integers_in, is_padded

# Inputs behind the first one: scale, zero-point, bits, scale and bits of the result.
PARAMETERS = 5


@dataclass(frozen=True)
class Truncation:
    """A truncation to the most significant bits, with one scale and one zero-point.

    Attributes:
        scale_before, zero_point: of its input.
        scale_behind: of its result.
        bits: of its input's integers.
        kept: of its result's.
        rounding: by QONNX's name.
        narrow: whether it leaves out the lowest integer.
    """

    scale_before: float
    zero_point: float
    scale_behind: float
    bits: int
    kept: int
    rounding: str
    narrow: bool

    @property
    def is_idle(self) -> bool:
        """Whether it changes nothing: no bit goes, and no integer is out of its range."""
        return self.kept >= self.bits + self.narrow

    @property
    def scale(self) -> float:
        """The largest number of which its result holds multiples."""
        return self.scale_before if self.is_idle else self.scale_behind

    def refusal(self, pool: NodeProto | None, map_size: list[int], bits: int | None) -> str | None:
        """Why FINN's average pool does not compute it, None where it does.

        Args:
            pool: what gives its input.
            map_size: height and width of that pool's input.
            bits: of the quantizer directly before the pool; None where there is none.
        """
        if pool is None or pool.op_type != "AveragePool":
            return "a truncation that no average pool stands before"
        windows, strides = (integers_in(pool, n, [1]) for n in ("kernel_shape", "strides"))
        is_square = len({*windows}) == len({*strides}) == len({*map_size}) == 1
        if not is_square or is_padded(pool) or any(integers_in(pool, "ceil_mode", [0])):
            return "a truncated average pool with padding, ceil_mode, or sides of different length"
        if strides[0] > windows[0]:
            return "a truncated average pool whose stride is larger than its window"
        if bits is None:
            return "a truncated average of something else than a quantizer's integers"
        if self.zero_point:
            return "a truncation with a zero-point"
        if not self.is_idle and (self.rounding != "FLOOR" or self.narrow):
            return f"a truncation that rounds by {self.rounding}" + self.narrow * ", narrow range"
        if self.bits != (((1 << bits) - 1) * windows[0] ** 2).bit_length() or self.kept < 2:
            return f"a truncation of {self.bits} bits to {self.kept}"
        return None


def truncation_of(
    node: NodeProto, constant: Callable[[str], np.ndarray | None]
) -> Truncation | None:
    """What a ``Trunc`` node computes; None where a parameter is computed or has several values.

    Args:
        node: of QONNX's second version.
        constant: the value of an initializer, None for other tensors.
    """
    values = [constant(name) for name in node.input[1:]]
    numbers = [float(v.reshape(-1)[0]) for v in values if v is not None and v.size == 1]
    if len(numbers) != PARAMETERS:
        return None
    scale_before, zero_point, bits, scale_behind, kept = numbers
    attributes = attribute_values(node)
    return Truncation(
        scale_before,
        zero_point,
        scale_behind,
        round(bits),
        round(kept),
        str(attributes["rounding_mode"]).upper(),
        bool(attributes.get("narrow", 0)),
    )
