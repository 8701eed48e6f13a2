"""Rivals take turns, and laps are what lies between marks."""

from __future__ import annotations

import time
from collections import Counter

import pytest
import torch
from measuring.timing import Spread, interleaved, laps

pytestmark = pytest.mark.heavy


def test_each_repetition_times_every_rival_once():
    calls = []

    def rival(name: str, seconds: float):
        def timed(number: int) -> tuple[float, ...]:
            calls.append((name, number))
            return (seconds,)

        return timed

    samples = interleaved(
        {"a": rival("a", 0.5), "b": rival("b", 0.1)}, repetitions=6, least_seconds=1.0
    )
    assert samples == {"a": [(0.5,)] * 6, "b": [(0.1,)] * 6}
    first, *rounds = (calls[start : start + 2] for start in range(0, len(calls), 2))
    assert first == [("a", 1), ("b", 1)]
    assert Counter(name for turn in rounds for name, _ in turn) == {"a": 6, "b": 6}
    assert all(dict(turn) == {"a": 2, "b": 10} for turn in rounds)
    # Not always in the same order.
    assert len({turn[0] for turn in rounds}) == 2


def test_laps_are_the_means_of_what_lies_between_the_marks():
    def call(mark):
        mark()
        time.sleep(0.002)
        mark()
        time.sleep(0.006)
        mark()

    short, long = laps(call, 3, torch.device("cpu"))
    assert short >= 0.002
    assert long >= 0.006


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3.0], (3.0, 3.0, 3.0)), ([5.0, 1.0, 2.0, 4.0, 3.0], (3.0, 2.0, 4.0))],
)
def test_a_spread_is_the_median_with_the_quartiles(values, expected):
    spread = Spread.of(values)
    assert (spread.median, spread.low, spread.high) == expected
