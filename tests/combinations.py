"""Tests of many combinations: a cover of them in every run, the others with ``-m slow``."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import pytest

__all__ = ["cover", "mark_slow_beyond_cover"]


def mark_slow_beyond_cover(items: Sequence[pytest.Item]) -> None:
    """Mark as slow what a test marked ``cover(together)`` is not asked for in every run.

    Of the combinations of its parameters, its fixtures' among them, those stay that bring as many
    values together as the mark says which no other does. With two, faults that a value or a pair of
    values brings out are found in every run, among them all of a backend that treats a rule, a step
    or a dtype in its own way; where a combination takes seconds, one has to do. What is slow
    already covers nothing.
    """
    combinations: dict[tuple[str, int], list[pytest.Function]] = defaultdict(list)
    for item in items:
        mark = item.get_closest_marker("cover")
        if mark is None or item.get_closest_marker("slow") is not None:
            continue
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            function, _, _ = item.nodeid.partition("[")
            combinations[function, *mark.args].append(item)
    for (_, together), each in combinations.items():
        kept = cover([list(item.callspec.params.values()) for item in each], together)
        for index, item in enumerate(each):
            if index not in kept:
                item.add_marker(pytest.mark.slow)


def cover(combinations: Sequence[Sequence[Any]], together: int) -> set[int]:
    """Indices of combinations in which any ``together`` values meet that meet in one at all."""
    order = list(range(len(combinations)))
    # In order, nearly all of the cover would have the first value of the last axis.
    random.Random(0).shuffle(order)
    met = []
    for combination in combinations:
        values = list(enumerate(_values(combination)))
        met.append(set(itertools.combinations(values, min(together, len(values)))))
    seen: set[Any] = set()
    kept: set[int] = set()
    # Those that bring most come first, which keeps the cover small.
    for new in range(max(map(len, met), default=0), 0, -1):
        for index in order:
            if len(met[index] - seen) >= new:
                kept.add(index)
                seen |= met[index]
    return kept


def _values(combination: Sequence[Any]) -> Iterator[Hashable]:
    """Values by name; those of a tuple, a fixture's parameter, are values each."""
    for value in combination:
        if isinstance(value, tuple):
            yield from _values(value)
        else:
            yield str(value)
