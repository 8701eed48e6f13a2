"""Bars of one benchmark's rivals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"floor": "#9e9e9e", "stock": "#c44e52", "ours": "#4c72b0"}


def panels(count: int, tallest: int) -> tuple[Figure, Sequence[Axes]]:
    """A figure of so many panels, high enough for so many bars in each."""
    columns = min(count, 3)
    rows = -(-count // columns)
    height = max(1.0 + 0.3 * tallest, 2.5)
    figure = Figure(figsize=(5 * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]


def bar_panels(values: Mapping[str, Mapping[str, float]], text: str, unit: str) -> Figure:
    """One panel for each title, with a bar for each of its names."""
    figure, axes = panels(len(values), max(map(len, values.values())))
    for panel, (title, of_panel) in zip(axes, values.items(), strict=True):
        bars(panel, title, of_panel, text, unit)
    return figure


def bars(axes: Axes, title: str, values: Mapping[str, float], text: str, unit: str) -> None:
    """One bar for each name, coloured by whose it is, with its number beside it."""
    names = list(values)
    drawn = axes.barh(
        range(len(names)), list(values.values()), color=[_colour(name) for name in names]
    )
    axes.bar_label(drawn, [format(value, text) for value in values.values()], padding=2, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(unit)
    axes.spines[["top", "right"]].set_visible(False)


def _colour(name: str) -> str:
    if name.startswith("stock"):
        return COLOURS["stock"]
    return COLOURS["ours" if name.startswith(("ours", "op")) else "floor"]
