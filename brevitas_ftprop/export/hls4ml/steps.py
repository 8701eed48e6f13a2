"""The affine function with the fewest bits that reaches each level exactly at its threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import ExportError

__all__ = ["AffineSteps", "affine_steps"]

# Beyond this many fractional bits the products no longer fit into int64 beside the sums.
MOST_FRACTIONAL_BITS = 30


@dataclass(frozen=True)
class AffineSteps:
    """``floor((factor·s + offset) / 2**bits)``, clamped to 0 … n, for each channel.

    Attributes:
        factor: int64 array (C,).
        offset: int64 array (C,).
        bits: number of fractional bits of both.
    """

    factor: np.ndarray
    offset: np.ndarray
    bits: int

    def levels(self, sums: np.ndarray, count: int) -> np.ndarray:
        """Level of each integer sum (…, C), 0 to ``count``."""
        return np.clip((self.factor * sums + self.offset) >> self.bits, 0, count)


def affine_steps(thresholds: np.ndarray, low: int, high: int, *, name: str = "") -> AffineSteps:
    """An affine function of integers that reaches level k exactly from the k-th threshold on.

    It is exact on every integer from ``low`` to ``high``, and monotone, so only the two integers
    around each threshold have to be looked at: ``factor·t + offset`` must have reached level k at
    the threshold t, and not at t − 1.

    Args:
        thresholds: int64 array (C, n), ascending; ``high + 1`` for a level that is never reached,
            ``low`` or less for one that always is.
        low: smallest integer that occurs.
        high: largest integer that occurs.
        name: of the layer, for messages.

    Returns:
        Factors and offsets with as few fractional bits as all channels need.

    Raises:
        ExportError: if no affine function has these steps.

    >>> steps = affine_steps(np.array([[-3, 0, 4]]), -8, 8)
    >>> steps.levels(np.arange(-4, 6)[:, None], 3).T
    array([[0, 1, 1, 1, 2, 2, 2, 2, 3, 3]])
    """
    channels = [_Channel(row, low, high) for row in np.asarray(thresholds, dtype=np.int64)]
    found: list[tuple[int, int] | None] = []
    for bits in range(MOST_FRACTIONAL_BITS + 1):
        found = [channel.on_grid(bits) for channel in channels]
        solved = [pair for pair in found if pair is not None]
        if len(solved) == len(found):
            factor, offset = np.array(solved, dtype=np.int64).T
            return AffineSteps(factor, offset, bits)
    wrong = next(index for index, pair in enumerate(found) if pair is None)
    raise ExportError(
        f"{name or 'a quantizer'}: the thresholds of channel {wrong} are not evenly spaced, which "
        "hls4ml's quantizers need: use a uniform quantizer or one of the staircases"
    )


class _Channel:
    """The thresholds of one channel that lie within reach, as conditions on two integers."""

    def __init__(self, thresholds: np.ndarray, low: int, high: int) -> None:
        level = np.arange(1, len(thresholds) + 1)
        below, reached = thresholds > low, thresholds <= high
        self.below, self.below_level = thresholds[below] - 1, level[below]
        self.reached, self.reached_level = thresholds[reached], level[reached]
        self.slope = self._middle_slope()

    def _middle_slope(self) -> float:
        """Middle of the slopes that fit, from the levels and distances of all pairs."""
        if not (len(self.below) and len(self.reached)):
            return 0.0
        rise = (self.below_level[:, None] - self.reached_level).astype(float)
        run = (self.below[:, None] - self.reached).astype(float)
        # At most `rise` between a reached point and a later one that is not.
        largest = np.min(rise[run > 0] / run[run > 0], initial=np.inf)
        # At least `rise` between a point that is not reached and a later one that is.
        smallest = np.max(rise[run < 0] / run[run < 0], initial=0.0)
        if np.isinf(largest):
            return max(1.0, 2.0 ** np.ceil(np.log2(max(smallest, 1.0))))
        return (smallest + largest) / 2

    def on_grid(self, bits: int) -> tuple[int, int] | None:
        one = 1 << bits
        nearest = round(self.slope * one)
        for factor in (nearest, nearest + 1, nearest - 1):
            if factor < 0:
                continue
            least = np.max(self.reached_level * one - factor * self.reached, initial=_LEAST)
            most = np.min(self.below_level * one - 1 - factor * self.below, initial=_MOST)
            if least <= most:
                return factor, _between(int(least), int(most), one)
        return None


_LEAST, _MOST = -(1 << 62), 1 << 62


def _between(least: int, most: int, one: int) -> int:
    """The middle, so that rounding in float32 executors has room on both sides."""
    if least == _LEAST and most == _MOST:
        return 0
    if least == _LEAST:
        return most - one // 2
    if most == _MOST:
        return least + one // 2
    return (least + most + 1) // 2
