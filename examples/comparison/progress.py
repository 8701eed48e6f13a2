"""What is shown while the runs of a comparison go on."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from training import Result

from .plan import Trial

# Of what the time that is left is told by: several epochs of long runs, too.
SECONDS = 3600.0


class TrialsProgress:
    """A bar of epochs with the time that is left, and a line for each run that has ended.

    Where there is no terminal there are the lines alone.

    Args:
        console: where.
        what: a word for the runs.
        total: how many there are.
    """

    def __init__(self, console: Console, what: str, total: int) -> None:
        self.console, self.what, self.total = console, what, total
        self.ended = 0
        self.first: dict[Path, int] = {}
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed} of {task.total} epochs,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
            speed_estimate_period=SECONDS,
        )

    def start(self, trials: list[Trial]) -> None:
        """Show the bar for trials that have no result yet."""
        epochs = sum(trial.recipe.epochs for trial in trials)
        self.task = self.bar.add_task(self.what, total=epochs, visible=bool(epochs))
        self.bar.start()

    def stop(self) -> None:
        self.bar.stop()

    def epoch(self, trial: Trial, epoch: int) -> None:
        """A trial has ended so many epochs."""
        if trial.folder not in self.first:
            # What an earlier call has trained tells nothing of how fast this one is.
            self.first[trial.folder] = epoch
            self._leave_out(epoch - 1)
        self.bar.advance(self.task)

    def result(self, trial: Trial, result: Result, *, trained: bool) -> None:
        """A trial has ended, or its result was there before."""
        if trained and trial.folder not in self.first:
            self._leave_out(trial.recipe.epochs)
        self.ended += 1
        of_test, of_validation = result.test_accuracy, result.validation_accuracy
        accuracy = of_validation if of_test is None else of_test
        left = self.bar.tasks[self.task].time_remaining if trained else None
        self.console.print(
            f"{self.what} {self.ended} of {self.total}: {trial.folder.name}  "
            f"{100 * accuracy:.2f} %  {result.seconds:.0f} s"
            + (f"  {_told(left)} left" if left else "" if trained else "  (was there)"),
            highlight=False,
            soft_wrap=True,
        )

    def _leave_out(self, epochs: int) -> None:
        self.bar.update(self.task, total=self.bar.tasks[self.task].total - epochs)


def _told(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
