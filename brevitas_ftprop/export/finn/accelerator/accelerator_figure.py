"""A whole accelerator over time: who works, who waits, and how full the FIFOs are."""

from __future__ import annotations

import os

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ...checks import check_path
from ...output_file import output_file
from .accelerator_report import AcceleratorReport

# As the report names them, with their colors.
STATES = {"busy": "C0", "starved": "0.93", "blocked": "C3"}


def draw_accelerator(report: AcceleratorReport, path: str | os.PathLike[str]) -> None:
    """Save the shares of busy, starved and blocked cycles of each node, and the FIFOs' fills.

    Raises:
        ValueError: if the report has no timeline.
        OSError: if there can be no such file.
    """
    timeline = report.timeline
    if timeline is None or not len(timeline.spent):
        raise ValueError("the report has no timeline to draw")
    nodes, fifos = len(report.nodes), len(report.fifos)
    figure = Figure(figsize=(10, 2 + 0.16 * (nodes + fifos)), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(nodes, fifos))
    shares = timeline.spent / timeline.spent.sum(axis=2, keepdims=True)
    colors = np.array([to_rgb(color) for color in STATES.values()])
    end = timeline.stride * len(timeline.spent)
    above.imshow(
        (shares @ colors).swapaxes(0, 1),
        aspect="auto",
        interpolation="nearest",
        extent=(0, end, nodes - 0.5, -0.5),
    )
    above.set_yticks(range(nodes), [node.name for node in report.nodes], fontsize=6)
    above.legend(
        handles=[Patch(color=color, label=state) for state, color in STATES.items()],
        loc="lower center",
        bbox_to_anchor=(0.5, 1),
        ncols=len(STATES),
    )
    depths = np.array([fifo.depth for fifo in report.fifos])
    fills = below.imshow(
        (timeline.fills / depths).T,
        aspect="auto",
        interpolation="nearest",
        extent=(0, end, fifos - 0.5, -0.5),
        cmap="viridis",
        vmin=0,
        vmax=1,
    )
    below.set_yticks(range(fifos), [f"{f.name} ({f.depth})" for f in report.fifos], fontsize=6)
    below.set_xlabel("clock cycle")
    figure.colorbar(fills, ax=below, label="fill / depth")
    with output_file(check_path(path, overwrite=True), overwrite=True) as stream:
        figure.savefig(stream, dpi=110, format="png")
