"""What QONNX's ``Trunc`` nodes compute, and which of them FINN's average pool computes too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto
from qonnx.core.datatype import DataType

from .integer_types import integer_range, integer_type
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
        signed: whether its integers are.
        narrow: whether the result leaves out the lowest one, or the highest without sign.
    """

    scale_before: float
    zero_point: float
    scale_behind: float
    bits: int
    kept: int
    rounding: str
    signed: bool
    narrow: bool

    @property
    def shift(self) -> int:
        """How many bits of a sum go."""
        return max(self.bits - self.kept, 0)

    @property
    def is_idle(self) -> bool:
        """Whether it changes nothing, whatever its input.

        Brevitas counts the bits of a sum without its sign: the lowest signed sums may be clipped.
        """
        return not self.signed and self.kept >= self.bits + self.narrow

    @property
    def scale(self) -> float:
        """Of which number its result holds the shifted sum."""
        return self.scale_behind if self.shift else self.scale_before

    def refusal(
        self, pool: NodeProto | None, map_size: list[int], levels: tuple[int, int] | None
    ) -> str | None:
        """Why FINN's average pool does not compute it, None where it does.

        Args:
            pool: what gives its input.
            map_size: height and width of that pool's input.
            levels: smallest and largest integer of the quantizer directly before the pool; None
                where there is none.
        """
        if pool is None or pool.op_type != "AveragePool":
            return "a truncation that no average pool stands before"
        windows, strides = (integers_in(pool, n, [1]) for n in ("kernel_shape", "strides"))
        is_square = len({*windows}) == len({*strides}) == len({*map_size}) == 1
        if not is_square or is_padded(pool) or any(integers_in(pool, "ceil_mode", [0])):
            return "a truncated average pool with padding, ceil_mode, or sides of different length"
        if strides[0] > windows[0]:
            return "a truncated average pool whose stride is larger than its window"
        if levels is None:
            return "a truncated average of something else than a quantizer's integers"
        if self.zero_point:
            return "a truncation with a zero-point"
        if self.shift and self.rounding != "FLOOR":
            return f"a truncation that rounds by {self.rounding}"
        bits, terms = DataType[integer_type(*levels)].bitwidth(), windows[0] ** 2
        if any(self._is_clipped(level * terms) for level in levels):
            return f"a truncation that clips sums of {terms} signed integers"
        if self.bits != (((1 << bits) - 1) * terms).bit_length() or self.kept < 2:
            return f"a truncation of {self.bits} bits to {self.kept}"
        return None

    def _is_clipped(self, total: int) -> bool:
        low, high = integer_range(self.kept, signed=self.signed, narrow=self.narrow)
        return not low <= (total << max(self.kept - self.bits, 0)) >> self.shift <= high


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
        bool(attributes["signed"]),
        bool(attributes["narrow"]),
    )
