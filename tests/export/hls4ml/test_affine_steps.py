"""The affine functions behind hls4ml's quantizers reach each level exactly at its threshold."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brevitas_ftprop.export import ExportError
from brevitas_ftprop.export.hls4ml.affine_steps import FLOOR, ROUND, AffineSteps, affine_steps


def by_thresholds(sums: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    return (sums[:, None, None] >= thresholds).sum(-1)


def levels(steps: AffineSteps, sums: np.ndarray, count: int, first: int = 0) -> np.ndarray:
    """What exact arithmetic makes of integer sums."""
    values = steps.factor * sums[:, None] + steps.offset
    if steps.rounding == FLOOR:
        return np.clip(values >> steps.bits, 0, count)
    rounded = [[round(Fraction(int(v), 1 << steps.bits) + first) for v in row] for row in values]
    return np.clip(np.array(rounded) - first, 0, count)


def thresholds_of(slope: float, offset: float, count: int, low: int, high: int) -> np.ndarray:
    """Where floor(slope·s + offset), computed exactly, reaches each level."""
    a, b = Fraction(slope), Fraction(offset)
    first = [-((b - k) / a).__floor__() for k in range(1, count + 1)]
    return np.clip(first, low, high + 1)


@settings(max_examples=200, deadline=None)
@given(
    slope=st.floats(1e-3, 8),
    offset=st.floats(-100, 100),
    count=st.sampled_from([1, 2, 3, 5, 7, 15]),
    high=st.integers(1, 3000),
)
def test_every_sum_gives_the_level_of_its_thresholds(slope, offset, count, high):
    thresholds = thresholds_of(slope, offset, count, -high, high)[None]
    steps = affine_steps(thresholds, -high, high)
    sums = np.arange(-high, high + 1)
    np.testing.assert_array_equal(levels(steps, sums, count), by_thresholds(sums, thresholds))


@settings(max_examples=50, deadline=None)
@given(threshold=st.integers(-101, 102))
def test_one_threshold_needs_no_fractional_bits(threshold):
    steps = affine_steps(np.array([[threshold]]), -100, 100)
    sums = np.arange(-100, 101)
    assert steps.bits == 0
    np.testing.assert_array_equal(levels(steps, sums, 1)[:, 0], sums >= threshold)


def test_levels_that_are_always_or_never_reached_bind_nothing():
    thresholds = np.array([[-8, -8, 9], [-8, 9, 9], [-8, 0, 9]])
    steps = affine_steps(thresholds, -8, 8)
    sums = np.arange(-8, 9)
    np.testing.assert_array_equal(levels(steps, sums, 3), by_thresholds(sums, thresholds))


def test_channels_share_the_bits_that_the_worst_of_them_needs():
    alone = affine_steps(np.array([[0, 4, 8]]), -16, 15)
    both = affine_steps(np.array([[0, 4, 8], [0, 3, 7]]), -16, 15)
    assert alone.bits <= both.bits
    sums = np.arange(-16, 16)
    np.testing.assert_array_equal(
        levels(both, sums, 3), by_thresholds(sums, np.array([[0, 4, 8], [0, 3, 7]]))
    )


@pytest.mark.parametrize("slope", [1 / 8191.37, 1 / 32749.9, 3.0])
def test_neighbours_among_many_sums_are_told_apart(slope):
    high = 1 << 22
    thresholds = thresholds_of(slope, 1 / 3, 255, -high, high)[None]
    steps = affine_steps(thresholds, -high, high, slack=1)
    beside = np.unique(np.concatenate([thresholds[0] - 1, thresholds[0], [-high, high]]))
    sums = beside[(beside >= -high) & (beside <= high)]
    assert np.array_equal(levels(steps, sums, 255)[:, 0], by_thresholds(sums, thresholds)[:, 0])


def test_levels_that_a_relu_cuts_off_are_not_blamed_on_the_thresholds():
    """Of a signed quantizer of −2 … 2 behind a ReLU, level 0 is the lowest that occurs."""
    with pytest.raises(ExportError, match=r"act1: channel 0 never falls below level 2 of 4.*ReLU"):
        affine_steps(np.array([[-8, -8, 3, 5]]), -8, 8, name="act1")
    steps = affine_steps(np.array([[3, 5]]), -8, 8, name="act1")
    assert levels(steps, np.array([-8, 2, 3, 4, 5]), 2).ravel().tolist() == [0, 0, 1, 1, 2]


def test_uneven_thresholds_are_refused_with_the_name_and_channel():
    with pytest.raises(ExportError, match=r"act1: the thresholds of channel 1 are not evenly"):
        affine_steps(np.array([[0, 4, 8], [0, 1, 8]]), -16, 15, name="act1")


@pytest.mark.parametrize("first", [0, 2, -3])
def test_ties_of_half_to_even_rounding_are_met(first):
    sums = np.arange(-64, 64)
    # Eight sums make a step, so that every eighth is a tie.
    expected = np.array([round(Fraction(int(s), 8) + first) - first for s in sums]).clip(0, 7)
    thresholds = np.array([[sums[np.argmax(expected >= k)] for k in range(1, 8)]])
    steps = affine_steps(thresholds, -64, 63, first=first)
    assert steps.rounding == ROUND
    np.testing.assert_array_equal(levels(steps, sums, 7, first)[:, 0], expected)


def test_slack_meets_thresholds_that_rounding_moved_by_one():
    thresholds = np.array([[2, 6, 8], [2, 5, 8]])
    with pytest.raises(ExportError, match="channel 0"):
        affine_steps(thresholds, -8, 8)
    steps = affine_steps(thresholds, -8, 8, slack=1)
    sums = np.arange(-8, 9)
    wrong = levels(steps, sums, 3) != by_thresholds(sums, thresholds)
    assert wrong[:, 0].sum() <= 3
    assert not wrong[:, 1].any()


def test_where_rounding_has_moved_a_threshold_those_of_exact_arithmetic_are_met():
    even = np.arange(1, 16)[None] * 7
    moved = even.copy()
    moved[0, 9] += 1
    with pytest.raises(ExportError, match="not evenly spaced"):
        affine_steps(moved, 0, 200)
    steps = affine_steps(moved, 0, 200, exact=even, slack=1)
    sums = np.arange(201)
    found = np.clip((steps.factor * sums + steps.offset) / 2**steps.bits, 0, 15)
    reached = (sums[:, None] >= even).sum(1)
    np.testing.assert_array_equal(
        np.floor(found) if steps.rounding == "FLOOR" else np.round(found), reached
    )
