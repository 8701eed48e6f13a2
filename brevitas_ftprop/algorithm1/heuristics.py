"""Targets that are handed down, or read off what rows still cost the layer above."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .proposal import LayerProblem, Proposal, Situation, costly_unit
from .threshold_network import sign

__all__ = ["copy", "planes_between", "reachable", "residual"]


def copy(situation: Situation) -> Proposal | None:
    """The units above hand their own targets down, a unit each; None where there are too few.

    What the layer above then has to do is trivial, and the search goes on one layer further down.
    """
    targets = situation.problem.targets
    if targets.shape[1] > situation.below.shape[1]:
        return None
    problem = LayerProblem(range(targets.shape[1]), targets, np.ones_like(targets))
    return Proposal("copy", problem)


def residual(situation: Situation, rng: np.random.RandomState) -> Proposal:
    """The least used unit gets the targets of a unit above, weighted by what that still costs.

    They are FTPROP's t = −sign(∂L/∂h) with weight |∂L/∂h| for an outgoing weight of 1, which the
    layer above is free to give the unit. The unit above is drawn by its cost.
    """
    residuals = situation.residuals
    above = costly_unit(residuals, rng)
    weights = residuals[:, [above]] / residuals[:, above].mean()
    targets = situation.problem.targets[:, [above]]
    return Proposal("residual", LayerProblem(situation.least_used(1, rng), targets, weights))


def reachable(situation: Situation, rng: np.random.RandomState, candidates: int) -> Proposal:
    """The least used unit gets the best of many target patterns that a perceptron reaches.

    A candidate is a plane between two rows that want different things of a unit above, drawn by
    what they still cost. The best has the largest correlation with a unit above's weighted targets,
    |Σ |∂L/∂z|·t·h|: the first-order change of the loss above.
    """
    residuals, targets = situation.residuals, situation.problem.targets
    normals, biases = planes_between(situation.inputs, targets, residuals, candidates, rng)
    patterns = sign(situation.inputs @ normals.T + biases)
    best = int(np.abs(patterns.T @ (residuals * targets)).max(axis=1).argmax())
    pattern = patterns[:, [best]]
    problem = LayerProblem(situation.least_used(1, rng), pattern, np.ones_like(pattern))
    return Proposal("reachable", problem, [(normals[best], float(biases[best]))])


def planes_between(
    inputs: np.ndarray,
    targets: np.ndarray,
    costs: np.ndarray,
    count: int,
    rng: np.random.RandomState,
) -> tuple[np.ndarray, np.ndarray]:
    """Planes, each across the segment between two rows that want different things of a unit.

    Args:
        inputs: shape (N, D).
        targets: ±1, shape (N, U).
        costs: by which unit and rows are drawn, ≥ 0 and not all 0, shape (N, U).
        count: how many.
        rng: draws them.

    Returns:
        Normals, shape (count, D), and biases, shape (count,).
    """
    normals, biases = np.empty((count, inputs.shape[1])), np.empty(count)
    for plane in range(count):
        unit = costly_unit(costs, rng)
        cost = costs[:, unit] + np.finfo(np.float64).tiny
        first, second = (
            inputs[rng.choice(rows, p=cost[rows] / cost[rows].sum())]
            for rows in _sides(targets[:, unit])
        )
        normals[plane] = first - second
        point = second + rng.uniform(0.2, 0.8) * normals[plane]
        biases[plane] = -normals[plane] @ point
    return normals, biases


def _sides(targets: np.ndarray) -> Iterator[np.ndarray]:
    """Rows that want 1 and rows that want -1; all rows, where a side has none."""
    for side in (1, -1):
        rows = np.flatnonzero(targets == side)
        yield rows if len(rows) else np.arange(len(targets))
