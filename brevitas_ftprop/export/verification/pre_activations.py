"""What a graph of integers has before a quantizer, beside PyTorch's pre-activation.

These are other numbers: scales and batch norms have gone into the thresholds. But in each channel
PyTorch's pre-activation is still a line over them, which two units tell; and along it the graph's
thresholds have to lie where the quantizer's are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Interval:
    """Between what a correct float32 pre-activation lies, float64 arrays (1, C, …).

    Attributes:
        low, high: twice as far from the middle as PyTorch's own may be, since a graph of another
            form rounds elsewhere.
    """

    low: np.ndarray
    high: np.ndarray

    @classmethod
    def around(cls, low: np.ndarray, high: np.ndarray) -> Interval:
        """Twice as wide as from ``low`` to ``high``."""
        middle, reach = (low + high) / 2, high - low
        return cls(middle - reach, middle + reach)

    def shaped(self, shape: tuple[int, ...]) -> Interval:
        """The same in another shape."""
        return Interval(self.low.reshape(shape), self.high.reshape(shape))

    def holds(self, values: np.ndarray) -> np.ndarray:
        """Where values lie within."""
        return (self.low <= values) & (values <= self.high)


@dataclass
class Lines:
    """PyTorch's pre-activation over the graph's, channel by channel.

    Each line goes through the units with the smallest and the largest number that were added; its
    ends are known up to their intervals. Units that may be 0 are no ends: where PyTorch's
    pre-activation is that behind a ReLU, they tell nothing of the line.
    """

    _at: np.ndarray = field(default_factory=lambda: np.array([[np.inf], [-np.inf]]))
    _low: np.ndarray = field(default_factory=lambda: np.zeros((2, 1)))
    _high: np.ndarray = field(default_factory=lambda: np.zeros((2, 1)))

    def add(self, values: np.ndarray, interval: Interval) -> None:
        """Add an image's numbers, shaped as the pre-activations."""
        rows, low, high = (_by_channel(part) for part in (values, interval.low, interval.high))
        channels = np.arange(len(rows))
        shape = (2, len(rows))
        at, lows, highs = (
            np.broadcast_to(a, shape).copy() for a in (self._at, self._low, self._high)
        )
        may_be_zero = (low <= 0) & (high >= 0)
        for side, nowhere in enumerate((np.inf, -np.inf)):
            known = np.where(may_be_zero, nowhere, rows)
            chosen = known.argmin(1) if side == 0 else known.argmax(1)
            ends = known[channels, chosen]
            further = ends < at[side] if side == 0 else ends > at[side]
            at[side] = np.where(further, ends, at[side])
            lows[side] = np.where(further, low[channels, chosen], lows[side])
            highs[side] = np.where(further, high[channels, chosen], highs[side])
        self._at, self._low, self._high = at, lows, highs

    def hold(self, values: np.ndarray, channels: np.ndarray, interval: Interval) -> np.ndarray:
        """Where units lie where the line says, array (M,); as for ``agree``."""
        low, high = self._reach(channels, values)
        on_line = (low <= interval.high) & (interval.low <= high)
        return ~self._is_known(channels) | on_line

    def agree(
        self,
        values: np.ndarray,
        channels: np.ndarray,
        interval: Interval,
        thresholds: tuple[np.ndarray, np.ndarray],
        *,
        whole: bool,
    ) -> np.ndarray:
        """Where units, and a threshold beside each, lie where the line says; arrays (M,).

        True where the line is not known yet: all numbers of the channel were the same.

        Args:
            values: the graph's numbers.
            channels: of the units.
            interval: of PyTorch's pre-activations.
            thresholds: the quantizer's own, and the graph's.
            whole: whether the graph's numbers are integers, so that thresholds may be rounded up.
        """
        own, found = thresholds
        tolerance = interval.high - interval.low
        lowest, _ = self._reach(channels, found - float(whole))
        _, highest = self._reach(channels, found)
        in_place = (lowest - tolerance <= own) & (own <= highest + tolerance)
        return self.hold(values, channels, interval) & (~self._is_known(channels) | in_place)

    def _is_known(self, channels: np.ndarray) -> np.ndarray:
        return self._at[0, channels] < self._at[1, channels]

    def _reach(self, channels: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest that a line may be at some places."""
        start, end = self._at[:, channels]
        # Ends that are not known yet are infinite.
        is_known = start < end
        share = (at - np.where(is_known, start, 0)) / np.where(is_known, end - start, 1)
        first, last = (
            [weight * bound[side, channels] for bound in (self._low, self._high)]
            for side, weight in enumerate((1 - share, share))
        )
        return np.minimum(*first) + np.minimum(*last), np.maximum(*first) + np.maximum(*last)


def _by_channel(values: np.ndarray) -> np.ndarray:
    return np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
