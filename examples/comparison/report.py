"""The table of a comparison, and the file that it can be made from again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from training import Result

from brevitas_ftprop.export.output_file import output_file
from brevitas_ftprop.export.tables import markdown_table

from .fairness import refuse_unfair
from .plan import Arm
from .statistics import Estimate, Paired, estimate, holm, paired


@dataclass(frozen=True)
class Row:
    """An arm's test accuracies in percent, and their difference to the reference rule's."""

    arm: Arm
    learning_rate: float
    accuracy: Estimate
    difference: Paired | None


@dataclass(frozen=True)
class Comparison:
    """Finished runs, and the rule that the others are compared with.

    Raises:
        UnfairComparisonError: if the runs differ in more than the declared factors.
        ValueError: if no run has the reference rule.
    """

    runs: tuple[Result, ...]
    tuning: tuple[Result, ...]
    reference: str

    def __post_init__(self) -> None:
        refuse_unfair(self.runs, self.tuning)
        rules = {run.recipe["rule"] for run in self.runs}
        if self.reference not in rules:
            raise ValueError(
                f"the reference rule {self.reference} has no run: choose one of {sorted(rules)}"
            )

    def rows(self, act: str | None) -> list[Row]:
        """One for each rule on an activation, the reference first; p-values adjusted for them."""
        arms = sorted(
            (arm for arm in self.arms if arm.act == act), key=lambda arm: arm.rule != self.reference
        )
        accuracies = {arm: self.accuracies(arm) for arm in arms}
        reference = accuracies.get(Arm(act, self.reference))
        differences = [
            None if reference is None or arm.rule == self.reference else paired(of_arm, reference)
            for arm, of_arm in accuracies.items()
        ]
        adjusted = holm([None if d is None else d.p for d in differences])
        return [
            Row(
                arm,
                self.runs_of(arm)[0].recipe["optimizer"]["lr"],
                estimate(list(accuracies[arm].values())),
                None if d is None else Paired(**{**asdict(d), "p_holm": p}),
            )
            for arm, d, p in zip(arms, differences, adjusted, strict=True)
        ]

    @property
    def arms(self) -> list[Arm]:
        """In the order of their first run."""
        return list(dict.fromkeys(Arm.of(run.recipe) for run in self.runs))

    @property
    def acts(self) -> list[str | None]:
        """In the order of their first run."""
        return list(dict.fromkeys(arm.act for arm in self.arms))

    def runs_of(self, arm: Arm) -> list[Result]:
        """The arm's runs, seed after seed."""
        of_arm = [run for run in self.runs if Arm.of(run.recipe) == arm]
        return sorted(of_arm, key=lambda run: run.recipe["seed"])

    def accuracies(self, arm: Arm) -> dict[int, float]:
        """Test accuracy in percent of each seed."""
        return {run.recipe["seed"]: 100 * run.test_accuracy for run in self.runs_of(arm)}

    def table(self) -> str:
        """Markdown: means with 95 % intervals, and paired differences to the reference rule."""
        columns = (
            "activation", "rule", "learning rate", "seeds", "test accuracy %",
            f"minus {self.reference}", "p", "p (Holm)",
        )  # fmt: skip
        rows = [_cells(row) for act in self.acts for row in self.rows(act)]
        return "\n".join([*markdown_table(columns, rows), "", self._caption()])

    def _caption(self) -> str:
        first = self.runs[0]
        hours = sum(run.seconds for run in (*self.runs, *self.tuning)) / 3600
        candidates = {run.recipe["optimizer"]["lr"] for run in self.tuning}
        how = (
            f"the learning rate of each row chosen on validation images among {len(candidates)} "
            "candidates, one run each"
            if self.tuning
            else "one learning rate for all"
        )
        return (
            f"{first.recipe['model']}, {first.images['train']} training images, "
            f"{first.recipe['epochs']} epochs, {how}; {first.images['test']} test images, seen "
            "once. Means with 95 % Student intervals over the seeds; differences and t-tests are "
            "paired by seed, over the seeds that both rules have; Holm's adjustment is for the "
            "rules of one activation. "
            f"{len(self.runs) + len(self.tuning)} runs, {hours:.1f} hours of training on "
            f"{first.device}, torch {first.versions['torch']}."
        )

    def write(self, path: Path) -> None:
        """Write all runs as JSON; the file is whole or not there."""
        with output_file(path, overwrite=True) as stream:
            stream.write(f"{json.dumps(asdict(self), indent=1)}\n".encode())

    @staticmethod
    def read(path: Path) -> Comparison:
        """The inverse of :meth:`write`; the runs are checked again."""
        try:
            values = json.loads(path.read_text())
            runs, tuning = (
                tuple(Result.from_dict(run) for run in values[name]) for name in ("runs", "tuning")
            )
            reference = values["reference"]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} is not a comparison's comparison.json ({error})") from error
        return Comparison(runs, tuning, reference)


def _cells(row: Row) -> tuple[object, ...]:
    accuracy, difference = _with_interval(row.accuracy, ".2f"), row.difference
    told = ("", "", "")
    if difference is not None:
        told = _with_interval(difference, "+.2f"), _p(difference.p), _p(difference.p_holm)
    rate = f"{row.learning_rate:g}"
    return (row.arm.act or "own", row.arm.rule, rate, row.accuracy.seeds, accuracy, *told)


def _with_interval(value: Estimate, form: str) -> str:
    if value.low is None or value.high is None:
        return f"{value.mean:{form}}"
    return f"{value.mean:{form}} ({value.low:{form}} to {value.high:{form}})"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value >= 0.001 else "< 0.001"
