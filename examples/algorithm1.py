"""Fit networks of hard thresholds by FTPROP, Algorithm 1: what is fitted, in how many decisions.

python examples/algorithm1.py
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from brevitas_ftprop import FTPROPClassifier

Data = tuple[np.ndarray, np.ndarray]


def parity(bits: int) -> Data:
    """All rows of so many bits, and whether the number of ones is odd."""
    rows = np.arange(2**bits)[:, None] >> np.arange(bits) & 1
    return rows, rows.sum(axis=1) % 2


def spirals() -> Data:
    """The two intertwined spirals of Lang and Witbrock (1988), 97 points each."""
    point = np.arange(97)
    angle, radius = point * np.pi / 16, 6.5 * (104 - point) / 104
    spiral = np.column_stack([radius * np.sin(angle), radius * np.cos(angle)])
    return np.concatenate([spiral, -spiral]), np.repeat([0, 1], len(point))


def digits() -> Data:
    """Scikit-learn's digits, 8x8 pixels from 0 to 16, without the 500 that are held out."""
    images, _, labels, _ = _split_digits()
    return images, labels


def held_out_digits() -> Data:
    _, images, _, labels = _split_digits()
    return images, labels


def _split_digits() -> list[np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    return train_test_split(images, labels, test_size=500, random_state=0, stratify=labels)


# Name → data, sizes of the hidden layers.
TASKS: dict[str, tuple[Callable[[], Data], tuple[int, ...]]] = {
    "xor": (lambda: parity(2), (2,)),
    "xor-small": (lambda: parity(2), (1,)),
    "parity3": (lambda: parity(3), (3,)),
    "parity4": (lambda: parity(4), (4,)),
    "parity4-deep": (lambda: parity(4), (4, 4)),
    "spirals": (spirals, (64,)),
    "spirals-deep": (spirals, (64, 32)),
    "digits": (digits, (32,)),
    "digits-deep": (digits, (64, 32)),
}

# What is measured, and to how many decimals it is told.
COLUMNS = {
    "training error %": 1,
    "decisions": 0,
    "seconds": 1,
    "separable outputs": 0,
    "held-out accuracy %": 1,
}


def fit(task: str, seed: int, budget: int) -> dict[str, float]:
    """What one fit came to."""
    load, hidden = TASKS[task]
    rows, labels = load()
    classifier = FTPROPClassifier(hidden, budget=budget, random_state=seed)
    start = time.perf_counter()
    with warnings.catch_warnings():
        # What it says stands in the table.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(rows, labels)
    measured = {
        "training error %": 100 * len(classifier.wrong_rows_) / len(rows),
        "decisions": len(classifier.decisions_),
        "seconds": time.perf_counter() - start,
        "separable outputs": len(classifier.network_.biases[-1])
        - len(classifier.infeasible_units_),
    }
    if load is digits:
        measured["held-out accuracy %"] = 100 * classifier.score(*held_out_digits())
    return measured


def main(argv: Sequence[str] | None = None) -> dict[str, list[dict[str, float]]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=5, help="fits of each task")
    parser.add_argument("--budget", type=int, default=200)
    arguments = parser.parse_args(argv)

    print("| data | hidden units |", " | ".join(COLUMNS), "|")
    print("| --- | --- |", " | ".join("---" for _ in COLUMNS), "|")
    fits = {}
    for task in arguments.tasks:
        fits[task] = [fit(task, seed, arguments.budget) for seed in range(arguments.seeds)]
        cells = [
            _range([each[c] for each in fits[task] if c in each], d) for c, d in COLUMNS.items()
        ]
        print(f"| {task} | {', '.join(map(str, TASKS[task][1]))} |", " | ".join(cells), "|")
    return fits


def _range(values: Sequence[float], decimals: int) -> str:
    if not values:
        return ""
    low, high = (f"{end:.{decimals}f}" for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


if __name__ == "__main__":
    main()
