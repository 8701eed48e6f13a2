"""What a fit says that did not fit every row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["shortfall"]

# How many names are listed.
NAMED = 5


def shortfall(
    rows: np.ndarray,
    labels: np.ndarray,
    wrong: int,
    inseparable: Sequence[Any],
    undecided: int = 0,
) -> str:
    """How many rows are wrong, which classes cannot be told from the rest, and which rows conflict.

    Args:
        rows: float32, shape (N, D).
        labels: shape (N,).
        wrong: number of rows that are not fitted.
        inseparable: classes whose output units are not separable.
        undecided: how many of the wrong are fitted but for what float32 rounds.

    >>> print(shortfall(np.zeros((3, 1)), np.array([0, 0, 1]), 1, []))
    1 of 3 rows are not fitted; no network fits rows that are equal but of two classes: 0 and 2
    """
    parts = [f"{wrong} of {len(rows)} rows are not fitted"]
    if undecided:
        parts.append(
            f"{undecided} of them lie within what float32 rounds of a threshold: centre and scale "
            "the features"
        )
    if inseparable:
        parts.append(f"output units that are not separable: class {_some(inseparable)}")
    pairs = [f"{first} and {second}" for first, second in _conflicts(rows, labels)]
    if pairs:
        parts.append(f"no network fits rows that are equal but of two classes: {_some(pairs)}")
    return "; ".join(parts)


def _conflicts(rows: np.ndarray, labels: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of equal rows with different labels: each such row with the first of its kind."""
    _, first, kind = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    firsts = first[kind.ravel()]
    against = np.flatnonzero(labels != labels[firsts])
    return [(int(firsts[row]), int(row)) for row in against]


def _some(names: Sequence[Any]) -> str:
    """The first few names, and how many there are beside them."""
    text = ", ".join(map(str, names[:NAMED]))
    return text if len(names) <= NAMED else f"{text} and {len(names) - NAMED} more"
