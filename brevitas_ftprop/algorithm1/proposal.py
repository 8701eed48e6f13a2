"""What a heuristic is given, and what it proposes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .convex import logistic_loss, unit_pull

__all__ = ["LayerProblem", "Proposal", "Situation", "costly_unit"]


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

    def least_used(self, count: int, rng: np.random.RandomState) -> list[int]:
        """Of half the units below, drawn at random, those that the layer above misses least."""
        drawn = rng.permutation(self.below.shape[1])[: max(count, (self.below.shape[1] + 1) // 2)]
        costs = []
        for unit in drawn:
            h = self.below[:, unit] - self.below[:, unit].mean()
            without = self.margins - self.problem.targets * np.outer(h, self.outgoing[:, unit])
            costs.append((self.problem.weights * logistic_loss(without)).sum())
        return drawn[np.argsort(costs)[:count]].tolist()


def costly_unit(costs: np.ndarray, rng: np.random.RandomState) -> int:
    """A unit drawn by its costs over all rows, shape (N, units)."""
    by_unit = costs.sum(axis=0)
    return int(rng.choice(len(by_unit), p=by_unit / by_unit.sum()))
