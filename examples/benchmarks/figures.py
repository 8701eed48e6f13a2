"""Bars of one benchmark's rivals."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["COLOURS", "bars", "panels"]

COLOURS = {"floor": "#9e9e9e", "stock": "#c44e52", "ours": "#4c72b0"}


def panels(count: int, tallest: int, width: float = 5.0) -> tuple[Figure, Sequence[Axes]]:
    """A figure of panels beside each other, high enough for so many bars."""
    figure = Figure(figsize=(width * count, 1.2 + 0.3 * tallest), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    return figure, axes


def bars(axes: Axes, title: str, values: dict[str, float], text: str, unit: str) -> None:
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
