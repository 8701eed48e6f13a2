"""Heuristics that set the targets of a layer below one that does not reach its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .convex import logistic_loss, unit_pull
from .threshold_network import sign

__all__ = [
    "LayerProblem",
    "Proposal",
    "Situation",
    "carve",
    "copy",
    "planes_between",
    "reachable",
    "residual",
]

DIRECTIONS = 128
# Projections closer than this share of the largest count as one.
SAME = 1e-6


@dataclass(frozen=True)
class LayerProblem:
    """What a layer is asked for.

    Attributes:
        units: which of its units have targets; the others may do what they like.
        targets: ±1, shape (N, units).
        weights: of each unit's loss on each row, ≥ 0, shape (N, units).
    """

    units: Sequence[int]
    targets: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Proposal:
    """Targets for a layer, and weights to start from where the targets were read off weights.

    Attributes:
        heuristic: its name.
        problem: the targets.
        start: a unit's weights and bias each, or nothing.
    """

    heuristic: str
    problem: LayerProblem
    start: Sequence[tuple[np.ndarray, float]] = ()


@dataclass(frozen=True)
class Situation:
    """A layer that misses its targets, and the layer below, whose targets are to be set.

    Attributes:
        problem: of the layer above.
        margins: t·z of the layer above's units, shape (N, units of the problem).
        outgoing: their weights on the layer below, shape (units of the problem, units below).
        below: what the layer below gives, ±1, shape (N, units below).
        inputs: what the layer below is fed, shape (N, D).
    """

    problem: LayerProblem
    margins: np.ndarray
    outgoing: np.ndarray
    below: np.ndarray
    inputs: np.ndarray

    @property
    def residuals(self) -> np.ndarray:
        """|∂L/∂z| of the layer above: what its rows still cost, shape (N, units)."""
        return self.problem.weights * unit_pull(self.margins)

    def least_used(self, rng: np.random.RandomState) -> int:
        """Of half the units below, drawn at random, the one that the layer above misses least."""
        drawn = rng.permutation(self.below.shape[1])[: (self.below.shape[1] + 1) // 2]
        costs = []
        for unit in drawn:
            h = self.below[:, unit] - self.below[:, unit].mean()
            without = self.margins - self.problem.targets * np.outer(h, self.outgoing[:, unit])
            costs.append((self.problem.weights * logistic_loss(without)).sum())
        return int(drawn[np.argmin(costs)])


def carve(situation: Situation, rng: np.random.RandomState) -> Proposal | None:
    """Cut the rows into slabs along one direction, each slab's rows wanting the same above.

    With a unit a cut, the layer above is separable by construction: its units have any value they
    want in every slab. The direction with fewest cuts is taken, of random ones and random signs (on
    bits the latter count them, which is what a parity needs). None where no direction needs at most
    as many cuts as there are units, or rows that want different things project to one value. In a
    layer of N − 1 units nearly every direction will do, whatever the N rows want.
    """
    inputs, units = situation.inputs, situation.below.shape[1]
    wanted = np.unique(situation.problem.targets, axis=0, return_inverse=True)[1].ravel()
    normal = rng.normal(size=(DIRECTIONS, inputs.shape[1]))
    normal[::2] = sign(normal[::2])
    best: tuple[np.ndarray, np.ndarray] | None = None
    for direction in normal:
        projected = inputs @ direction
        order = projected.argsort()
        along = projected[order]
        changes = np.diff(wanted[order]) != 0
        apart = np.diff(along) > SAME * np.abs(along).max()
        if (changes & ~apart).any():
            continue
        cuts = np.flatnonzero(changes)
        if len(cuts) <= units and (best is None or len(cuts) < len(best[1])):
            best = direction, (along[cuts] + along[cuts + 1]) / 2
    if best is None:
        return None
    direction, thresholds = best
    targets = sign((inputs @ direction)[:, None] - thresholds)
    problem = LayerProblem(range(len(thresholds)), targets, np.ones_like(targets))
    return Proposal("carve", problem, [(direction, -threshold) for threshold in thresholds])


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
    above = _drawn(residuals, rng)
    weights = residuals[:, [above]] / residuals[:, above].mean()
    targets = situation.problem.targets[:, [above]]
    return Proposal("residual", LayerProblem([situation.least_used(rng)], targets, weights))


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
    problem = LayerProblem([situation.least_used(rng)], pattern, np.ones_like(pattern))
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
        unit = _drawn(costs, rng)
        cost = costs[:, unit] + np.finfo(np.float64).tiny
        first, second = (
            inputs[rng.choice(rows, p=cost[rows] / cost[rows].sum())]
            for rows in _sides(targets[:, unit])
        )
        normals[plane] = first - second
        point = second + rng.uniform(0.2, 0.8) * normals[plane]
        biases[plane] = -normals[plane] @ point
    return normals, biases


def _drawn(costs: np.ndarray, rng: np.random.RandomState) -> int:
    by_unit = costs.sum(axis=0)
    return int(rng.choice(len(by_unit), p=by_unit / by_unit.sum()))


def _sides(targets: np.ndarray) -> Iterator[np.ndarray]:
    """Rows that want 1 and rows that want -1; all rows, where a side has none."""
    for side in (1, -1):
        rows = np.flatnonzero(targets == side)
        yield rows if len(rows) else np.arange(len(targets))
