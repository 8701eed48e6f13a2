"""A monitor's history as a table and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .metrics import MARGIN_EDGES, METRICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

History = Sequence[dict[str, Any]]

SHARES = ("at_target", "dead", "with_target", "output_flips", "target_flips")
# So narrow that all metrics stand beside a name in 80 columns.
HEADS = {
    "at_target": "at\ntarget",
    "dead": "dead",
    "with_target": "with\ntarget",
    "output_flips": "output\nflips",
    "target_flips": "target\nflips",
    "grad_in": "grad\nin",
    "grad_out": "grad\nout",
    "estimating_error": "estim.\nerror",
    "gradient_instability": "grad.\ninstab.",
}
NAME_WIDTH = 13
READING = (
    "Rows are quantizers in the order of the model, columns sampled steps, the first at the left.\n"
    "Shares are drawn from 0 to 1, the other metrics on a logarithmic scale of their own; white "
    "has no value (flips need a step before, those of activations a probe)."
)


def table(history: History) -> Table:
    """The last sampled step, one row a quantizer, one column a metric."""
    try:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
    except ImportError as error:
        raise ImportError("the table needs Rich: pip install 'brevitas-ftprop[cli]'") from error
    last = history[-1] if history else {"step": None, "layers": {}}
    title = f"step {last['step']}" if history else "no step sampled yet"
    table = Table(title=title, box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("quantizer", no_wrap=True)
    for metric in METRICS:
        table.add_column(HEADS[metric], justify="right", no_wrap=True)
    for name, metrics in last["layers"].items():
        table.add_row(_broken(name), *(_cell(metric, metrics[metric]) for metric in METRICS))
    return table


def _broken(name: str) -> str:
    """A name over as many lines as it needs, broken behind its dots only.

    >>> _broken("features.conv1.weight_quant").splitlines()
    ['features.', 'conv1.', 'weight_quant']
    """
    first, *others = name.split(".")
    lines = [first]
    for part in others:
        lines[-1] += "."
        if len(lines[-1]) + len(part) > NAME_WIDTH:
            lines.append(part)
        else:
            lines[-1] += part
    return "\n".join(lines)


def _cell(metric: str, value: float | None) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:.1%}" if metric in SHARES else f"{value:.2g}"


def figure(history: History) -> Figure:
    """A panel a metric, quantizers × sampled steps; below them the last step's margins."""
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
    figure = Figure(
        figsize=(5 * columns, (1.1 + 0.18 * len(names)) * (rows + 1.4)), layout="constrained"
    )
    FigureCanvasAgg(figure)
    upper, lower = figure.subfigures(2, 1, height_ratios=(rows, 1.4))
    axes = upper.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axis, (metric, says) in zip(axes.flat, METRICS.items(), strict=True):
        values = [[_number(entry, name, metric) for entry in history] for name in names]
        positive = [v for row in values for v in row if 0 < v < float("inf")]
        if metric in SHARES:
            scale: dict[str, Any] = {"vmin": 0, "vmax": 1}
        else:
            scale = {"norm": LogNorm(min(positive), max(positive))} if positive else {}
        drawn = axis.imshow(values, aspect="auto", interpolation="nearest", **scale)
        upper.colorbar(drawn, ax=axis)
        axis.set_title(f"{metric}: {says}", fontsize=8)
        axis.set_yticks(range(len(names)), names, fontsize=6)
        shown = range(0, len(history), -(-len(history) // 6))
        axis.set_xticks(shown, [str(history[at]["step"]) for at in shown], fontsize=6)
    upper.supxlabel("step", fontsize=8)
    upper.suptitle(READING, fontsize=8)
    _draw_margins(lower, history[-1], names)
    return figure


def _draw_margins(figure: Any, entry: dict[str, Any], names: Sequence[str]) -> None:
    """Each quantizer's histogram of margins as a row, a column a bin."""
    axis = figure.subplots()
    none = [float("nan")] * (len(MARGIN_EDGES) + 1)
    shares = [entry["layers"].get(name, {}).get("margins", none) for name in names]
    drawn = axis.imshow(shares, aspect="auto", interpolation="nearest", cmap="magma", vmin=0)
    figure.colorbar(drawn, ax=axis, label="share of the units with a target")
    axis.set_title(
        f"margins: histogram of m = t·z at step {entry['step']}; right of 0 a unit is at its "
        "target, the first and the last bin are open",
        fontsize=8,
    )
    axis.set_yticks(range(len(names)), names, fontsize=6)
    axis.set_xticks([k + 0.5 for k in range(len(MARGIN_EDGES))], MARGIN_EDGES, fontsize=6)
    axis.set_xlabel("margin m", fontsize=8)


def _number(entry: dict[str, Any], name: str, metric: str) -> float:
    value = entry["layers"].get(name, {}).get(metric)
    return float("nan") if value is None else value
