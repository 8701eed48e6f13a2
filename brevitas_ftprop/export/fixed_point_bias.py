"""The bias of a last layer in the integers that the layer's sums are."""

from __future__ import annotations

import math

import numpy as np

from .errors import ExportError
from .float32 import EXACT_BITS, LARGEST_EXACT, UNIT

# Quotients of float32 numbers that are as near to integers come from integers.
NEAR = 2.0**-20
# A truncated average has a scale that is finer than its values by as many bits, and so has a bias
# that takes it.
FINER_BITS = 8


def fixed_point_bias(
    bias: np.ndarray, scale: float, reach: np.ndarray, terms: int, *, is_class: bool
) -> tuple[np.ndarray, int]:
    """Integers d and a number of bits k, so that ``2^k m + d`` stands for ``scale m + bias``.

    m are the layer's sums, integers. Where the bias is integers times the scale k is 0; where it is
    integers times the scale over a small power of two, as a quantized bias behind a truncated
    average may be, it is that power, and only the class can be told. Otherwise k is the least for
    which, whatever the sums are, any two classes have the same order with d as with the bias.
    PyTorch sees that order, too, if the bias keeps any two logits further apart than they are
    rounded: by the bias alone where the scale is a power of two, else by each summand.

    Args:
        bias: of each class.
        scale: of the sums, positive.
        reach: of each class, the largest that a sum may be.
        terms: number of summands in a sum.
        is_class: whether only the order of the classes is of interest.

    Raises:
        ExportError: if there are no such integers, or float32 cannot tell.

    >>> fixed_point_bias(np.array([1.5, -0.5]), 0.5, np.array([9, 9]), 4, is_class=False)
    (array([ 3., -1.]), 0)
    >>> fixed_point_bias(np.array([0.25, -0.5]), 1.0, np.array([9, 9]), 4, is_class=True)
    (array([ 0., -1.]), 1)
    """
    bias = bias.astype(np.float64) / scale
    is_exact = math.frexp(scale)[0] == 0.5
    near = 0 if is_exact else NEAR
    largest = float((reach + np.abs(bias)).max())
    for bits in range(FINER_BITS + 1 if is_class and not is_exact else 1):
        finer = bias * 2**bits
        size = np.maximum(1, np.abs(finer))
        # Of larger ones every float32 number is near an integer.
        is_told = bits == 0 or (near * size.max() < 1 / 4 and largest * 2**bits < LARGEST_EXACT)
        whole = np.rint(finer)
        if is_told and bool(np.all(np.abs(finer - whole) <= near * size)):
            return whole, bits
    if not is_class:
        raise ExportError("its bias is no multiple of the scale of its integers")
    difference = bias[:, None] - bias
    gap = np.abs(difference - np.rint(difference))
    rounding = (1 if is_exact else terms + 4) * UNIT * (reach + np.abs(bias))
    risky = np.argwhere((gap > 0) & (gap <= rounding[:, None] + rounding))
    if len(risky):
        one, other = risky[0].tolist()
        raise ExportError(
            f"its bias leaves the logits of the classes {one} and {other} as near to each "
            "other as they are rounded"
        )
    for bits in range(EXACT_BITS):
        if largest * 2**bits >= LARGEST_EXACT:
            break
        integers = np.rint(bias * 2**bits)
        steps = integers[:, None] - integers
        is_right = (np.floor(steps / 2**bits) == np.floor(difference)) & (steps % 2**bits != 0)
        if bool(np.where(gap == 0, steps == difference * 2**bits, is_right).all()):
            return integers, bits
    raise ExportError(f"its bias takes sums of more than {EXACT_BITS} bits to compare")
