"""Targets from cuts between rows along one direction, which make something above separable."""

from __future__ import annotations

import numpy as np

from .proposal import LayerProblem, Proposal, Situation, costly_unit
from .threshold_network import sign

__all__ = ["carve", "enclose"]

# Directions that are tried each time.
DIRECTIONS = 128
# Projections closer than this share of the largest count as one.
SAME = 1e-6


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
    best: tuple[np.ndarray, np.ndarray] | None = None
    for direction in _directions(inputs.shape[1], rng):
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


def enclose(situation: Situation, rng: np.random.RandomState) -> Proposal | None:
    """The two least used units enclose a row that costs much between two parallel planes.

    The row is drawn by its cost for a unit above. Between the planes lie only rows that want the
    same as it; of random directions and random signs that one is taken where these cost most. The
    difference of the two units is 0 outside, so that the layer above can mend those rows and touch
    no others. None where there is only one unit, or a row that wants the opposite lies on the row.
    """
    if situation.below.shape[1] < 2:
        return None
    residuals = situation.residuals
    above = costly_unit(residuals, rng)
    cost, wanted = residuals[:, above], situation.problem.targets[:, above]
    row = int(rng.choice(len(cost), p=cost / cost.sum()))
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for direction in _directions(situation.inputs.shape[1], rng):
        projected = situation.inputs @ direction
        along = projected - projected[row]
        opposite = along[wanted != wanted[row]]
        if (np.abs(opposite) <= SAME * np.abs(projected).max()).any():
            continue
        # Beyond the outermost rows the planes may lie anywhere.
        beyond = np.ptp(along) + 1
        low = max(opposite[opposite < 0].max(initial=-np.inf), along.min() - beyond)
        high = min(opposite[opposite > 0].min(initial=np.inf), along.max() + beyond)
        inside = (low < along) & (along < high)
        enclosed = float(cost[inside].sum())
        if best is None or enclosed > best[0]:
            ends = np.array([low + along[inside].min(), high + along[inside].max()]) / 2
            best = enclosed, direction, projected[row] + ends
    if best is None:
        return None
    _, direction, ends = best
    targets = sign((situation.inputs @ direction)[:, None] - ends)
    problem = LayerProblem(situation.least_used(2, rng), targets, np.ones_like(targets))
    return Proposal("enclose", problem, [(direction, -float(end)) for end in ends])


def _directions(dimensions: int, rng: np.random.RandomState) -> np.ndarray:
    """Random directions, and as many of random signs."""
    directions = rng.normal(size=(DIRECTIONS, dimensions))
    directions[::2] = sign(directions[::2])
    return directions
