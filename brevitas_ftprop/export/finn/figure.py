"""The pipeline of a dataflow accelerator as bars."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .builder import RESOURCES
from .finn_report import FinnReport


def draw_dataflow(report: FinnReport, path: Path) -> None:
    """Save cycles an image and resources of each layer, in pipeline order, as a PNG."""
    names = list(report.layers)
    shown = ("cycles", *(kind for kind in RESOURCES if report.resources.get(kind)))
    figure = Figure(figsize=(2.5 + 3 * len(shown), 1.5 + 0.18 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axis, kind in zip(axes, shown, strict=True):
        values = [report.layers[name][kind] for name in names]
        slowest = max(values)
        colors = ["C3" if kind == "cycles" and value == slowest else "C0" for value in values]
        axis.barh(range(len(names)), values, color=colors)
        axis.set_title("cycles an image" if kind == "cycles" else kind)
        axis.grid(axis="x", alpha=0.3)
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_yticks(range(len(names)), _labels(report), fontsize=7)
    axes[0].invert_yaxis()
    fps = report.performance.get("estimated_throughput_fps", 0)
    figure.suptitle(f"{report.fpga_part}, {report.clock_ns:g} ns: about {fps:.0f} frames a second")
    figure.savefig(path, dpi=110)


def _labels(report: FinnReport) -> list[str]:
    """Each hardware node, with the layer or the quantizer of the model that it computes."""
    named = {
        name: layer.get("quantizer") or layer.get("model layer")
        for name, layer in report.layers.items()
    }
    return [f"{name}  ({own})" if own else name for name, own in named.items()]
