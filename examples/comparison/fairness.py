"""Whether runs differ in what was declared and in nothing else."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from training import Result, differences

from .plan import TUNING_SEED, Arm, Plan

FACTORS = {"act", "rule", "seed", "targets"}
LEARNING_RATE = "optimizer.lr"


class UnfairComparisonError(ValueError):
    """Runs differ in more than the declared factors."""


def refuse_unfair(runs: Sequence[Result], tuning: Sequence[Result] = ()) -> None:
    """Check that a comparison of the runs' test accuracies is one of their rules and setters.

    They may differ in rule, target setter, activation and seed, and in the learning rate if each
    arm's is the best of the same candidates, each tried once on validation images. Device, package
    versions and images have to be the same, and so have the first weights of runs with the same
    activation and seed.

    Args:
        runs: with test accuracies.
        tuning: the runs that the learning rates were chosen by; empty if there is but one.

    Raises:
        UnfairComparisonError: naming the field, its values and runs that have them.
    """
    if not runs:
        raise UnfairComparisonError("there are no finished runs to compare")
    _refuse_differing_recipes(runs, FACTORS | ({LEARNING_RATE} if tuning else set()))
    _refuse_differing_environments([*runs, *tuning])
    _refuse_differing_starts(runs)
    for run in runs:
        if run.test_accuracy is None:
            raise UnfairComparisonError(f"{_name(run)} was never tested")
    counts = Counter((Arm.of(run.recipe), run.recipe["seed"]) for run in runs)
    for (arm, seed), count in counts.items():
        if count > 1:
            raise UnfairComparisonError(f"{arm} ran {count} times with seed {seed}: keep one")
    if tuning:
        _refuse_unequal_tuning(runs, tuning)


def refuse_mixed(plan: Plan, environment: dict[str, Any], stored: Sequence[Result]) -> None:
    """Check, before anything is trained, that a plan's runs can stand beside those of its folder.

    Args:
        plan: what will run.
        environment: device, versions and hash of the data that it will run with.
        stored: runs of the folder, those that chose a learning rate among them.

    Raises:
        UnfairComparisonError: naming what differs.
    """
    recipe = plan.recipe.to_dict()
    tuned = {run.recipe["optimizer"]["lr"] for run in stored if run.recipe["seed"] == TUNING_SEED}
    planned = set(plan.learning_rates)
    # Behind the first tested run, all candidates have been tried.
    has_tested = any(run.recipe["seed"] != TUNING_SEED for run in stored)
    if tuned - planned or (has_tested and tuned != planned):
        raise UnfairComparisonError(
            f"{plan.out} has runs with learning rates from the candidates {sorted(tuned)}, not "
            f"{sorted(planned)}: give the same --learning-rates, or another --out"
        )
    allowed = FACTORS | {"test"} | ({LEARNING_RATE} if planned else set())
    for run in stored:
        fields = [field for field in differences(run.recipe, recipe) if field not in allowed]
        fields += [
            name for name, value in environment.items() if getattr(run, name) not in (None, value)
        ]
        if fields:
            raise UnfairComparisonError(
                f"{plan.out} has runs with another {', '.join(fields)}: give another --out"
            )


def chosen_learning_rates(tuning: Iterable[Result]) -> dict[Arm, float]:
    """The candidate of each arm with the highest validation accuracy; of equal ones the smaller."""
    best: dict[Arm, tuple[float, float]] = {}
    for run in tuning:
        arm, lr = Arm.of(run.recipe), run.recipe["optimizer"]["lr"]
        best[arm] = max(best.get(arm, (-1.0, 0.0)), (run.validation_accuracy or 0.0, -lr))
    return {arm: -negative for arm, (_, negative) in best.items()}


def _name(run: Result) -> str:
    return f"{Arm.of(run.recipe)} with seed {run.recipe['seed']}"


def _value(run: Result, field: str) -> Any:
    value: Any = run.recipe
    for part in field.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _refuse_differing_recipes(runs: Sequence[Result], allowed: set[str]) -> None:
    first = runs[0]
    for run in runs[1:]:
        for field in differences(first.recipe, run.recipe):
            if field not in allowed:
                raise UnfairComparisonError(
                    f"{field} is {_value(first, field)} in {_name(first)} and "
                    f"{_value(run, field)} in {_name(run)}: only {', '.join(sorted(allowed))} may "
                    "differ"
                )


def _refuse_differing_environments(runs: Sequence[Result]) -> None:
    first = runs[0]
    for run in runs[1:]:
        for field in ("device", "devices", "images", "data_hash", "versions"):
            mine, theirs = getattr(first, field), getattr(run, field)
            if mine != theirs and None not in (mine, theirs):
                raise UnfairComparisonError(
                    f"{field} is {mine} for {_name(first)} and {theirs} for {_name(run)}: run all "
                    "of them on the same machine and data"
                )


def _refuse_differing_starts(runs: Sequence[Result]) -> None:
    starts: dict[tuple, Result] = {}
    for run in runs:
        first = starts.setdefault((run.recipe["act"], run.recipe["seed"]), run)
        if first.initial_weights != run.initial_weights:
            raise UnfairComparisonError(
                f"{_name(first)} and {_name(run)} started from different weights "
                f"({first.initial_weights} and {run.initial_weights})"
            )


def _refuse_unequal_tuning(runs: Sequence[Result], tuning: Sequence[Result]) -> None:
    _refuse_differing_recipes(tuning, FACTORS - {"seed"} | {LEARNING_RATE})
    # Of the run and of what chose its learning rate, only what tells them apart may differ.
    _refuse_differing_recipes([runs[0], tuning[0]], FACTORS | {LEARNING_RATE, "test"})
    tested = [run for run in runs if run.recipe["seed"] == TUNING_SEED]
    if tested:
        raise UnfairComparisonError(
            f"{_name(tested[0])} is tested with the seed that it was tuned with"
        )
    candidates = defaultdict(list)
    for run in tuning:
        candidates[Arm.of(run.recipe)].append(run.recipe["optimizer"]["lr"])
    arms = {Arm.of(run.recipe): None for run in runs}
    first = next(iter(arms))
    for arm in arms:
        if sorted(candidates[arm]) != sorted(candidates[first]):
            raise UnfairComparisonError(
                f"the learning rate of {first} was chosen among {sorted(candidates[first])}, that "
                f"of {arm} among {sorted(candidates[arm])}: the budgets have to be equal"
            )
    chosen = chosen_learning_rates(tuning)
    for run in runs:
        lr, best = run.recipe["optimizer"]["lr"], chosen[Arm.of(run.recipe)]
        if lr != best:
            raise UnfairComparisonError(
                f"{_name(run)} ran with learning rate {lr}, but {best} was the best candidate"
            )
