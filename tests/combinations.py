"""Combinations of parameters: a cover of all pairs in every run, the others with ``-m slow``."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from typing import Any

import pytest

__all__ = ["combinations"]


def combinations(*axes: Iterable[Any]) -> list[Any]:
    """Parameters for every combination of the values; those that add no new pair of values to the
    others are slow.

    Faults that a single value or two values together bring out are found in every run, among them
    all of a backend that treats a rule, a step or a dtype in its own way.
    """
    values = list(itertools.product(*map(list, axes)))
    order = list(range(len(values)))
    # In order, nearly all of the cover would have the first value of the last axis.
    random.Random(0).shuffle(order)
    seen: set[Any] = set()
    slow = set()
    for index in order:
        names = [_name(value) for value in values[index]]
        pairs = set(itertools.combinations(enumerate(names), 2))
        if pairs <= seen:
            slow.add(index)
        seen |= pairs
    return [
        pytest.param(
            *each, id="-".join(map(_name, each)), marks=[pytest.mark.slow] * (index in slow)
        )
        for index, each in enumerate(values)
    ]


def _name(value: Any) -> str:
    return getattr(value, "name", None) or str(value)
