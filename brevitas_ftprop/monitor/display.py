"""A monitor's history as a table and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .metrics import METRICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

History = Sequence[dict[str, Any]]

SHARES = ("at_target", "dead", "with_target", "output_flips", "target_flips")


def table(history: History) -> Table:
    """The last sampled step, one row a quantizer, one column a metric."""
    try:
        from rich.table import Table
    except ImportError as error:
        raise ImportError("the table needs Rich: pip install 'brevitas-ftprop[cli]'") from error
    last = history[-1] if history else {"step": None, "layers": {}}
    table = Table(title=f"step {last['step']}" if history else "no step sampled yet")
    table.add_column("quantizer", overflow="fold")
    for metric in METRICS:
        table.add_column(metric.replace("_", " "), justify="right")
    for name, metrics in last["layers"].items():
        table.add_row(name, *(_cell(metric, metrics[metric]) for metric in METRICS))
    return table


def _cell(metric: str, value: float | None) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:.1%}" if metric in SHARES else f"{value:.3g}"


def figure(history: History) -> Figure:
    """A panel a metric: quantizers from top to bottom, sampled steps from left to right."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.colors import LogNorm
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "the figure needs matplotlib: pip install 'brevitas-ftprop[cli]'"
        ) from error
    if not history:
        raise ValueError("no step has been sampled yet: call monitor.step() after each step")
    names = list(dict.fromkeys(name for entry in history for name in entry["layers"]))
    if not names:
        raise ValueError("no quantizer had a gradient in the sampled steps: none was in training")
    columns, rows = 3, -(-len(METRICS) // 3)
    figure = Figure(figsize=(5 * columns, (1.1 + 0.18 * len(names)) * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axis, (metric, says) in zip(axes.flat, METRICS.items(), strict=True):
        values = [[_number(entry, name, metric) for entry in history] for name in names]
        positive = [v for row in values for v in row if 0 < v < float("inf")]
        if metric in SHARES:
            scale: dict[str, Any] = {"vmin": 0, "vmax": 1}
        else:
            scale = {"norm": LogNorm(min(positive), max(positive))} if positive else {}
        drawn = axis.imshow(values, aspect="auto", interpolation="nearest", **scale)
        figure.colorbar(drawn, ax=axis)
        axis.set_title(says, fontsize=8)
        axis.set_yticks(range(len(names)), names, fontsize=6)
        shown = range(0, len(history), -(-len(history) // 6))
        axis.set_xticks(shown, [str(history[at]["step"]) for at in shown], fontsize=6)
    figure.supxlabel("step", fontsize=8)
    return figure


def _number(entry: dict[str, Any], name: str, metric: str) -> float:
    value = entry["layers"].get(name, {}).get(metric)
    return float("nan") if value is None else value
