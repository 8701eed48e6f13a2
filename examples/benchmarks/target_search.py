"""What a search for targets costs: training steps with each setter against plain ones.

    python examples/benchmarks/target_search.py

A step is forward, loss, backward and SGD with momentum. All rivals are the same network with the
same weights, see the same random images, and take turns. The memory is the peak of a step above the
weights and the optimizer's state.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from jsonargparse import Namespace
from matplotlib.figure import Figure
from measuring.benchmark import Rows, run_benchmark
from measuring.command import build_parser
from measuring.figures import bar_panels
from measuring.networks import NETWORKS
from measuring.record import markdown
from measuring.step import Step
from measuring.timing import Mark, Spread, interleaved
from torch import Tensor, nn

from brevitas_ftprop.search import search_targets
from brevitas_ftprop.targets import get_setter

SETTERS = (
    "gradient_sign",
    "uniform",
    "curvature",
    "exact_flip(share=0.05)",
    "local_search(candidates=16)",
)


class SearchedStep(Step):
    """A training step whose targets a setter chooses."""

    def __init__(self, network: nn.Module, images: Tensor, labels: Tensor, setter: str):
        super().__init__(network, images, labels, "32")
        self.search = search_targets(network, setter)

    def __call__(self, mark: Mark = lambda: None) -> None:
        with self.search:
            super().__call__(mark)


def arguments_parser() -> Any:
    parser = build_parser("target_search", __doc__, repetitions=7)
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=["convnet8"])
    parser.add_argument("--setters", nargs="+", default=list(SETTERS))
    parser.add_argument("--batch-size", nargs="+", type=int, default=[64])
    parser.add_argument("--image-size", type=int, help="of AlexNet and ResNet-18, instead of 224")
    return parser


def measure(options: Namespace, model: str, batch_size: int, device: torch.device) -> Rows:
    """One row for each setter, the plain step first."""
    network, rule = NETWORKS[model], options.rules[0]
    size = network.chosen_size(options.image_size)
    images, labels = (each.to(device) for each in network.batch(size, batch_size))
    steps = {}
    for setter in dict.fromkeys(("gradient_sign", *options.setters)):
        print(model, setter, file=sys.stderr, flush=True)
        steps[setter] = SearchedStep(
            network.ours(size, "sign", rule, "exact"), images, labels, setter
        )
        # Checks once that the layers above explain their gradients.
        steps[setter]()
    samples = interleaved(
        {name: step.time for name, step in steps.items()},
        repetitions=options.repetitions,
        least_seconds=0.05,
    )
    peaks = {name: step.peak() for name, step in steps.items()}
    medians = {
        name: Spread.of([sum(sample) for sample in each]).median for name, each in samples.items()
    }
    plain = "gradient_sign"
    return [
        {
            "model": model,
            "image_size": size,
            "batch_size": batch_size,
            "setter": name,
            "seconds": medians[name],
            "times_plain": {
                "step": medians[name] / medians[plain],
                "peak": peaks[name] / peaks[plain],
            },
            "peak_bytes": peaks[name],
            "left": step.search.left,
        }
        for name, step in steps.items()
    ]


def measured(options: Namespace, device: torch.device) -> Rows:
    options.setters = [get_setter(setter).spec for setter in options.setters]
    return [
        row
        for model in options.models
        for batch_size in options.batch_size
        for row in measure(options, model, batch_size, device)
    ]


def table(rows: Rows) -> str:
    """Time and peak memory of a step, and their ratios to the plain one's."""
    return markdown(
        [
            {
                "model": row["model"],
                "batch": row["batch_size"],
                "setter": f"`{row['setter']}`",
                "step ms": f"{1000 * row['seconds']:.4g}",
                "times plain": f"{row['times_plain']['step']:.2f}",
                "peak MB": f"{row['peak_bytes'] / 1e6:.1f}",
                "peak, times plain": f"{row['times_plain']['peak']:.2f}",
                "layers left": len(row["left"]),
            }
            for row in rows
        ]
    )


def figure(rows: Rows) -> Figure:
    """Bars of a step's time, relative to the plain one's."""
    by_panel: dict[str, dict[str, float]] = {}
    for row in rows:
        title = f"{row['model']}, batches of {row['batch_size']}"
        by_panel.setdefault(title, {})[row["setter"]] = row["times_plain"]["step"]
    return bar_panels(by_panel, ".3g", "time of a training step, times the plain one's")


def caption(options: Namespace) -> str:
    return (
        f"Forward, loss, backward and SGD with momentum, float32; rule {options.rules[0]}; medians "
        f"of {options.repetitions} repetitions in which all setters take turns."
    )


def main(argv: Sequence[str] | None = None) -> int:
    return run_benchmark(arguments_parser(), argv, measured, table, caption, figure)


if __name__ == "__main__":
    raise SystemExit(main())
