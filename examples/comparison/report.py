"""The table of a comparison, and the file that it can be made from again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from training import Result
from training.recipe import PLAIN, STOCK

from brevitas_ftprop.export.output_file import output_file
from brevitas_ftprop.export.tables import markdown_table

from .fairness import refuse_unfair
from .plan import Arm
from .statistics import Estimate, Paired, estimate, holm, paired

# What Brevitas' own binary and integer activations do.
EQUAL_TO_STOCK = "saturated_ste"
# Columns of the table that are there for a search.
TARGETS, TIME, MEMORY = "targets", "time a step", "peak memory"


@dataclass(frozen=True)
class Row:
    """An arm's test accuracies in percent, and their difference to the reference rule's.

    Attributes:
        time, memory: of a step, relative to the same rule without a search; None where it was not
            measured.
    """

    arm: Arm
    learning_rate: float
    accuracy: Estimate
    difference: Paired | None
    time: float | None
    memory: float | None


@dataclass(frozen=True)
class Comparison:
    """Finished runs, and the rule, without a search, that the others are compared with.

    Raises:
        UnfairComparisonError: if the runs differ in more than the declared factors.
        ValueError: if no run has the reference rule.
    """

    runs: tuple[Result, ...]
    tuning: tuple[Result, ...]
    reference: str

    def __post_init__(self) -> None:
        refuse_unfair(self.runs, self.tuning)
        rules = {arm.rule for arm in self.arms if arm.targets == PLAIN}
        if self.reference not in rules:
            raise ValueError(
                f"the reference rule {self.reference} has no run with targets {PLAIN}: choose one "
                f"of {sorted(rules)}"
            )

    def rows(self, act: str | None) -> list[Row]:
        """One for each arm of an activation, the reference first; p-values adjusted for them.

        The arms of a rule follow one another, the one without a search first.
        """
        compared_with = Arm(act, self.reference)
        rules = [self.reference, *(arm.rule for arm in self.arms)]
        arms = sorted(
            (arm for arm in self.arms if arm.act == act),
            key=lambda arm: (rules.index(arm.rule), arm != arm.plain),
        )
        accuracies = {arm: self.accuracies(arm) for arm in arms}
        reference = accuracies.get(compared_with)
        differences = [
            None if reference is None or arm == compared_with else paired(of_arm, reference)
            for arm, of_arm in accuracies.items()
        ]
        adjusted = holm([None if d is None else d.p for d in differences])
        return [
            Row(
                arm,
                self.runs_of(arm)[0].recipe["optimizer"]["lr"],
                estimate(list(accuracies[arm].values())),
                None if d is None else Paired(**{**asdict(d), "p_holm": p}),
                self._relative(arm, lambda run: run.step_seconds),
                self._relative(arm, lambda run: run.peak_bytes),
            )
            for arm, d, p in zip(arms, differences, adjusted, strict=True)
        ]

    @property
    def arms(self) -> list[Arm]:
        """In the order of their first run."""
        return list(dict.fromkeys(Arm.of(run.recipe) for run in self.runs))

    @property
    def has_search(self) -> bool:
        """Whether some runs have other targets than the default's."""
        return any(arm.targets != PLAIN for arm in self.arms)

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

    def cells(self) -> list[dict[str, str]]:
        """The table's rows as text under the titles of its columns."""
        rows = [row for act in self.acts for row in self.rows(act)]
        cells = [_cells(row, minus=f"minus {self.reference}") for row in rows]
        left_out = self._left_out(rows)
        return [{t: text for t, text in row.items() if t not in left_out} for row in cells]

    def table(self) -> str:
        """Markdown: means with 95 % intervals, and paired differences to the reference rule."""
        cells = self.cells()
        lines = markdown_table(list(cells[0]), (list(row.values()) for row in cells))
        return "\n".join([*lines, "", self.caption()])

    def _relative(self, arm: Arm, cost: Callable[[Result], float | None]) -> float | None:
        """Median of the arm's runs over that of the same rule's without a search."""
        measured = [[cost(run) for run in self.runs_of(each)] for each in (arm, arm.plain)]
        of_arm, of_plain = ([each for each in runs if each is not None] for runs in measured)
        return median(of_arm) / median(of_plain) if of_arm and of_plain else None

    def _left_out(self, rows: Sequence[Row]) -> set[str]:
        """Columns that say nothing: those about the search where there is none."""
        if not self.has_search:
            return {TARGETS, TIME, MEMORY}
        return {MEMORY} if all(row.memory is None for row in rows) else set()

    def caption(self) -> str:
        """What the table is of."""
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
            f"{'rules and setters' if self.has_search else 'rules'} of one activation. "
            f"{self._of_search() if self.has_search else ''}{self._of_equal_rules()}"
            f"{len(self.runs) + len(self.tuning)} runs, {hours:.1f} hours of training on "
            f"{first.device}, torch {first.versions['torch']}."
        )

    def _of_search(self) -> str:
        left = sorted({name for run in self.runs for name in run.targets_left})
        return (
            "Time is the median of a run's optimizer steps, memory the most that PyTorch held on "
            f"the GPU, both relative to the same rule with {PLAIN}. "
            + (f"Left at {PLAIN}, for reasons in the JSON: {', '.join(left)}. " if left else "")
        )

    def _of_equal_rules(self) -> str:
        """Why rules of one formula differ, where they do."""
        for act in self.acts:
            stock, same = (self.accuracies(Arm(act, rule)) for rule in (STOCK, EQUAL_TO_STOCK))
            if any(stock[seed] != same[seed] for seed in stock.keys() & same.keys()):
                return (
                    f"On binary and integer activations {EQUAL_TO_STOCK} is the formula of "
                    f"{STOCK}: what differs began in the last place, where sums of gradients run "
                    "in another order (of learned scales in large tensors, unless "
                    "BREVITAS_FTPROP_BACKEND=eager, and where branches of a network meet). "
                )
        return ""

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


def _cells(row: Row, *, minus: str) -> dict[str, str]:
    difference = row.difference
    return {
        "activation": row.arm.act or "own",
        "rule": row.arm.rule,
        TARGETS: row.arm.targets,
        "learning rate": f"{row.learning_rate:g}",
        "seeds": str(row.accuracy.seeds),
        "test accuracy %": _with_interval(row.accuracy, ".2f"),
        minus: "" if difference is None else _with_interval(difference, "+.2f"),
        "p": "" if difference is None else _p(difference.p),
        "p (Holm)": "" if difference is None else _p(difference.p_holm),
        TIME: _times(row.time),
        MEMORY: _times(row.memory),
    }


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f} ×"


def _with_interval(value: Estimate, form: str) -> str:
    if value.low is None or value.high is None:
        return f"{value.mean:{form}}"
    return f"{value.mean:{form}} ({value.low:{form}} to {value.high:{form}})"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value >= 0.001 else "< 0.001"
