"""Learning curves with bands, and the differences to the reference rule."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

from .report import Comparison

# Near curves are told apart by more than colour; a wider line shows under a coincident one.
STYLES = ("-", "--", "-.", ":")
WIDEST, THINNEST = 4.0, 1.4


def draw(comparison: Comparison, path: Path) -> None:
    """One column an activation: above the curves of all rules, below their differences.

    Each setter of a rule is one of its own.

    Curves are means over the seeds of validation accuracy where the recipe holds images out, else
    of training accuracy; bands are their range. Differences have their 95 % intervals. The figure
    says so itself, with the numbers of seeds and runs.
    """
    matplotlib.use("agg")
    from matplotlib import pyplot

    acts = comparison.acts
    figure, axes = pyplot.subplots(
        2, len(acts), figsize=(7 * len(acts), 8.4), squeeze=False, layout="constrained"
    )
    methods = list(dict.fromkeys(arm.method for arm in comparison.arms))
    colors = {method: f"C{index}" for index, method in enumerate(methods)}
    for column, act in zip(axes.T, acts, strict=True):
        _draw_curves(column[0], comparison, act, colors)
        _draw_differences(column[1], comparison, act, colors)
    figure.suptitle(
        f"{len(comparison.runs)} runs. Above: means over n seeds, bands from the worst seed to the "
        "best.\nBelow: mean differences of pairs that share a seed, with Student's 95 % intervals.",
        fontsize=10,
    )
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _draw_curves(axes, comparison: Comparison, act: str | None, colors: dict[str, str]) -> None:
    held_out = bool(comparison.runs[0].images.get("validation"))
    rows = comparison.rows(act)
    widths = np.linspace(WIDEST, THINNEST, len(rows))
    for position, (row, width) in enumerate(zip(rows, widths, strict=True)):
        curves = np.array(
            [
                [
                    100 * (epoch.validation_accuracy if held_out else epoch.train_accuracy)
                    for epoch in run.curve
                ]
                for run in comparison.runs_of(row.arm)
            ]
        )
        epochs = np.arange(1, curves.shape[1] + 1)
        color = colors[row.arm.method]
        style = STYLES[position % len(STYLES)]
        label = f"{row.arm.method} (n = {len(curves)})"
        axes.plot(epochs, curves.mean(0), style, color=color, lw=width, label=label)
        axes.fill_between(epochs, curves.min(0), curves.max(0), color=color, alpha=0.15, lw=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(
        title=act or "the model's own activation",
        xlabel="epoch",
        ylabel=f"{'validation' if held_out else 'training'} accuracy %",
    )
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, handlelength=4)


def _draw_differences(
    axes, comparison: Comparison, act: str | None, colors: dict[str, str]
) -> None:
    compared = [row for row in comparison.rows(act) if row.difference is not None]
    for position, row in enumerate(compared):
        difference, color = row.difference, colors[row.arm.method]
        axes.plot(difference.mean, position, "o", color=color)
        if difference.low is not None:
            axes.plot([difference.low, difference.high], [position] * 2, color=color)
    axes.axvline(0, color="0.5", lw=0.8)
    names = [f"{row.arm.method}\n{row.difference.seeds} pairs" for row in compared]
    axes.set_yticks(range(len(compared)), names)
    axes.invert_yaxis()
    axes.set(xlabel=f"test accuracy minus {comparison.reference}, points")
