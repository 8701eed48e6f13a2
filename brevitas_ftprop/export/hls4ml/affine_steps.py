"""The affine function with the fewest bits that reaches each level exactly at its threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import ExportError

FLOOR, ROUND = "FLOOR", "ROUND"
# Among the sums of a wide layer with 8-bit inputs and levels fewer do not tell neighbours apart.
MOST_FRACTIONAL_BITS = 44
# Factors and offsets are written as float64.
LARGEST = 1 << 53
NO_LEAST, NO_MOST = -(1 << 62), 1 << 62


@dataclass(frozen=True)
class AffineSteps:
    """``(factor·s + offset) / 2**bits``, rounded and clamped to 0 … n, for each channel.

    Attributes:
        factor: int64 array (C,).
        offset: int64 array (C,).
        bits: number of fractional bits of both.
        rounding: ``"FLOOR"`` or ``"ROUND"``, half to even.
    """

    factor: np.ndarray
    offset: np.ndarray
    bits: int
    rounding: str


def affine_steps(
    thresholds: np.ndarray,
    low: int | np.ndarray,
    high: int | np.ndarray,
    *,
    first: int = 0,
    exact: np.ndarray | None = None,
    slack: int = 0,
    name: str = "",
) -> AffineSteps:
    """An affine function of integers that reaches level k exactly from the k-th threshold on.

    It is exact on every integer from ``low`` to ``high``, and monotone, so only the two integers
    around each threshold have to be looked at: at the threshold t it must have reached level k, and
    at t − 1 it must not. Rounding down is cheaper in hardware; half to even is taken where sums
    meet the ties of a quantizer that rounds.

    Args:
        thresholds: int64 array (C, n), ascending; ``high + 1`` for a level that is never reached,
            ``low`` or less for one that always is.
        low: smallest integer that occurs, of all channels or int64 array (C,).
        high: largest integer that occurs, likewise.
        first: what will be added before the rounding; half to even depends on it being even.
        exact: those of exact arithmetic, which are taken in channels where no affine function meets
            all of PyTorch's, before any slack: they differ only at sums within its rounding.
        slack: by how many sums thresholds may be missed in channels where no affine function meets
            them all: PyTorch's rounding can move a tie to the next sum.
        name: of the layer, for messages.

    Returns:
        Factors and offsets with as few fractional bits as all channels need.

    Raises:
        ExportError: if no affine function has these steps.

    >>> steps = affine_steps(np.array([[-3, 0, 4]]), -8, 8)
    >>> sums = np.arange(-4, 6)
    >>> np.clip((steps.factor * sums + steps.offset) >> steps.bits, 0, 3)
    array([0, 1, 1, 1, 2, 2, 2, 2, 3, 3])
    """
    rows = np.asarray(thresholds, dtype=np.int64)
    lows, highs = (np.broadcast_to(end, len(rows)).tolist() for end in (low, high))
    reached = list(zip(rows, lows, highs, strict=True))
    count, exact_channels = rows.shape[1], [_Channel(*each) for each in reached]
    for rounding in (FLOOR, ROUND):
        unmet = _unmet(exact_channels, count, rounding, first)
        if not unmet:
            return _coarsest(exact_channels, count, rounding, first, name)
    if slack and exact is not None:
        for index in unmet:
            reached[index] = (exact[index], *reached[index][1:])
    relaxed = [
        _Channel(*reached[index]) if index in unmet else channel
        for index, channel in enumerate(exact_channels)
    ]
    unmet = _unmet(relaxed, count, ROUND, first)
    if slack and not unmet:
        return _coarsest(relaxed, count, ROUND, first, name)
    relaxed = [
        _Channel(*reached[index], slack) if index in unmet else channel
        for index, channel in enumerate(relaxed)
    ]
    unmet = _unmet(relaxed, count, ROUND, first)
    if slack and not unmet:
        return _coarsest(relaxed, count, ROUND, first, name)
    who, (row, lowest, highest) = name or "a quantizer", reached[unmet[0]]
    cut = int((row <= lowest).sum())
    if 0 < cut < count and _has_even_rest(row[cut:], lowest, highest, first + cut):
        raise ExportError(
            f"{who}: channel {unmet[0]} never falls below level {cut} of {count}, as behind a ReLU "
            "before a signed quantizer, and hls4ml's quantizers saturate at their lowest level "
            "only: use an unsigned quantizer (QuantReLU), or leave the ReLU out"
        )
    raise ExportError(
        f"{who}: the thresholds of channel {unmet[0]} are not evenly spaced, "
        "which hls4ml's quantizers need: use a uniform quantizer or one of the staircases"
    )


def _unmet(channels: list[_Channel], count: int, rounding: str, first: int) -> list[int]:
    """Channels whose thresholds no affine function has."""
    grids = [(bits, *_ends(count, bits, rounding, first)) for bits in _all_bits(rounding)]
    return [
        index
        for index, channel in enumerate(channels)
        # The finest grid mostly does; the numbers of a steep function are too large for it.
        if all(channel.on_grid(*grid) is None for grid in reversed(grids))
    ]


def _all_bits(rounding: str) -> range:
    # Half to even has ties, which are no integers.
    return range(int(rounding == ROUND), MOST_FRACTIONAL_BITS + 1)


def _has_even_rest(row: np.ndarray, low: int, high: int, first: int) -> bool:
    """Whether the levels behind those that are always reached are those of an affine function."""
    channel = _Channel(row, low, high, slack=1)
    return not _unmet([channel], len(row), ROUND, first)


def _coarsest(
    channels: list[_Channel], count: int, rounding: str, first: int, name: str
) -> AffineSteps:
    for bits in _all_bits(rounding):
        ends = _ends(count, bits, rounding, first)
        solved = [pair for c in channels if (pair := c.on_grid(bits, *ends)) is not None]
        if len(solved) == len(channels):
            factor, offset = np.array(solved, dtype=np.int64).T
            return AffineSteps(factor, offset, bits, rounding)
    raise ExportError(
        f"{name or 'a quantizer'}: no number of fractional bits does for the thresholds of all "
        "channels: use scales and batch norms that differ less from channel to channel"
    )


def _ends(count: int, bits: int, rounding: str, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Least value that is rounded to each level 1 … count, and most that is not, in 2**-bits."""
    level = np.arange(1, count + 1)
    if rounding == FLOOR:
        return level << bits, (level << bits) - 1
    middle = (level << bits) - (1 << bits - 1)
    # At the middle between two levels the even one is taken.
    is_odd = (level + first) % 2
    return middle + is_odd, middle - 1 + is_odd


class _Channel:
    """The thresholds of one channel that lie within reach, as conditions on two integers."""

    def __init__(self, thresholds: np.ndarray, low: int, high: int, slack: int = 0) -> None:
        level = np.arange(len(thresholds))
        missed, reached = thresholds - 1 - slack, thresholds + slack
        is_missed, is_reached = missed >= low, reached <= high
        self.missed, self.missed_level = missed[is_missed], level[is_missed]
        self.reached, self.reached_level = reached[is_reached], level[is_reached]
        self.slope = self._middle_slope()
        looked_at = np.concatenate([self.missed, self.reached])
        self.origin = int(looked_at.min()) if len(looked_at) else 0
        self.width = int(looked_at.max()) - self.origin if len(looked_at) else 0

    def _middle_slope(self) -> float:
        """Middle of the slopes that fit, from the levels and distances of all pairs."""
        if not (len(self.missed) and len(self.reached)):
            return 0.0
        rise = (self.missed_level[:, None] - self.reached_level).astype(float)
        run = (self.missed[:, None] - self.reached).astype(float)
        # At most `rise` between a sum that has reached a level and one behind it that has not.
        largest = np.min(rise[run > 0] / run[run > 0], initial=np.inf)
        # At least `rise` between a sum that has not reached a level and one behind it that has.
        smallest = np.max(rise[run < 0] / run[run < 0], initial=0.0)
        if np.isinf(largest):
            return max(1.0, np.ceil(smallest))
        return (smallest + largest) / 2

    def on_grid(self, bits: int, least: np.ndarray, most: np.ndarray) -> tuple[int, int] | None:
        """Factor and offset in units of 2**-bits; None if that is too coarse, or they too large."""
        nearest = round(self.slope * (1 << bits))
        for factor in (nearest, nearest + 1, nearest - 1):
            if not 0 <= factor < LARGEST // (self.width + 1):
                continue
            # Counted from a threshold, so that products fit into int64.
            reached, missed = (
                factor * (each - self.origin) for each in (self.reached, self.missed)
            )
            low = np.max(least[self.reached_level] - reached, initial=NO_LEAST)
            high = np.min(most[self.missed_level] - missed, initial=NO_MOST)
            if low <= high:
                there = _between(int(low), int(high), 1 << bits)
                offset = there - factor * self.origin
                return (factor, offset) if abs(offset) < LARGEST else None
        return None


def _between(least: int, most: int, one: int) -> int:
    """The middle, so that executors in float32 have room on both sides."""
    if least == NO_LEAST and most == NO_MOST:
        return 0
    if least == NO_LEAST:
        return most - one // 2
    if most == NO_MOST:
        return least + one // 2
    return (least + most + 1) // 2
