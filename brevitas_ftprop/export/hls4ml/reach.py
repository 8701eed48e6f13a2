"""Which integers a layer's sums can reach, and the QONNX type that holds them."""

from __future__ import annotations

import math

import numpy as np

# On a MultiThreshold node: smallest and largest integer that it reads, and what one of them is in
# the graph, where its input's type holds more of them, or others than multiples of that.
REACH = "brevitas_ftprop.reach"
# Likewise: channel, number and value of the thresholds that PyTorch's rounding has moved, where
# exact arithmetic has them.
MOVED = "brevitas_ftprop.moved"
# On the first of the nodes that a MultiThreshold node has become: it reads the sums.
SUMS = "brevitas_ftprop.sums"


def reach_of(weights: np.ndarray, low: int, high: int) -> tuple[int, int]:
    """Smallest and largest sum of any output channel, partial sums and zero padding included.

    Args:
        weights: int64 array (C, …), output channels first.
        low: smallest input.
        high: largest input.

    >>> reach_of(np.array([[2, -1]]), 0, 3)
    (-3, 6)
    """
    flat = weights.reshape(len(weights), -1)
    products = np.stack([flat * low, flat * high, np.zeros_like(flat)])
    return int(products.min(0).sum(1).min()), int(products.max(0).sum(1).max())


def sum_type(low: int, high: int, unit: float) -> str:
    """The smallest signed QONNX type that holds ``low`` to ``high`` multiples of a power of two.

    >>> sum_type(-100, 100, 1.0), sum_type(-100, 100, 0.25)
    ('INT8', 'FIXED<8,6>')
    """
    bits = max(-low - 1, high).bit_length() + 1
    fractional = -round(math.log2(unit))
    return f"FIXED<{bits},{bits - fractional}>" if fractional > 0 else f"INT{bits - fractional}"
