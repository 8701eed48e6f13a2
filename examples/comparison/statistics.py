"""Means with intervals, and paired differences to a reference rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its two-sided 95 % Student interval; no interval from one seed."""

    mean: float
    low: float | None
    high: float | None
    seeds: int


@dataclass(frozen=True)
class Paired(Estimate):
    """A mean difference between arms that share their seeds.

    Attributes:
        p: of the two-sided paired t-test.
        p_holm: the same, adjusted for the number of rules that the reference is compared with.
    """

    p: float | None
    p_holm: float | None = None


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of one value a seed, with its interval ``mean ± t(0.975, n − 1)·s/√n``."""
    return Estimate(mean(values), *_interval(values), len(values))


def paired(arm: Mapping[int, float], reference: Mapping[int, float]) -> Paired:
    """Difference ``arm − reference`` over the seeds that both have.

    Raises:
        ValueError: if they share no seed.
    """
    seeds = sorted(arm.keys() & reference.keys())
    if not seeds:
        raise ValueError("the two arms share no seed, so that nothing can be paired")
    differences = [arm[seed] - reference[seed] for seed in seeds]
    # Equal differences have no variance: the test is undefined, not significant.
    is_testable = len(set(differences)) > 1
    p = float(stats.ttest_1samp(differences, 0).pvalue) if is_testable else None
    return Paired(mean(differences), *_interval(differences), len(seeds), p)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values adjusted by Holm's step-down method; those that are undefined stay so.

    ``p̃(i) = max over j ≤ i of min(1, (m − j + 1)·p(j))`` for the m ascending p(j).

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]

    References:
        Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[index] = largest
    return adjusted


def _interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    if len(values) < 2:
        return None, None
    margin = stats.sem(values) * stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return mean(values) - float(margin), mean(values) + float(margin)
