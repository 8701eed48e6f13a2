"""Fit networks of hard thresholds by FTPROP, Algorithm 1: what is fitted, in how many decisions.

python examples/algorithm1.py
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

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


def fit(task: str, seed: int, budget: int) -> dict[str, Any]:
    """A row of the table."""
    load, hidden = TASKS[task]
    rows, labels = load()
    classifier = FTPROPClassifier(hidden, budget=budget, random_state=seed)
    start = time.perf_counter()
    with warnings.catch_warnings():
        # What it says stands in the table.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(rows, labels)
    seconds = time.perf_counter() - start
    outputs = len(classifier.network_.biases[-1])
    held_out = classifier.score(*held_out_digits()) if load is digits else None
    return {
        "data": task,
        "rows": len(rows),
        "hidden units": ", ".join(map(str, hidden)),
        "seed": seed,
        "training error": f"{len(classifier.wrong_rows_) / len(rows):.1%}",
        "decisions": len(classifier.decisions_),
        "seconds": f"{seconds:.1f}",
        "separable outputs": f"{outputs - len(classifier.infeasible_units_)} of {outputs}",
        "held-out accuracy": "" if held_out is None else f"{held_out:.1%}",
    }


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=1, help="fits of each task")
    parser.add_argument("--budget", type=int, default=200)
    arguments = parser.parse_args(argv)

    results = [
        fit(task, seed, arguments.budget)
        for task in arguments.tasks
        for seed in range(arguments.seeds)
    ]
    for cells in (results[0], ["---"] * len(results[0]), *(each.values() for each in results)):
        print("|", " | ".join(map(str, cells)), "|")
    return results


if __name__ == "__main__":
    main()
