"""A training step of whole networks: with stock quantizers, with ours, compiled, and with ReLU.

    python examples/benchmarks/training_step.py --image-size 96
    python examples/benchmarks/training_step.py --device cuda --precision bf16 --batch-size 64 256

A step is forward, loss, backward and SGD with momentum. The rivals with quantizers start from the
same weights; all see the same random images, and take turns. The ReLU network is the floor: the
same layers without quantizers, and what a step takes longer is the quantizers' overhead. The
memory is the peak of a step above the weights and the optimizer's state.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from jsonargparse import Namespace
from matplotlib.figure import Figure
from measuring.benchmark import Rows, run_benchmark
from measuring.command import BACKENDS, build_parser
from measuring.figures import bar_panels
from measuring.networks import ACTS, NETWORKS
from measuring.record import markdown
from measuring.step import Step
from measuring.timing import Sample, Spread, interleaved
from measuring.variable import variable
from torch import nn

from brevitas_ftprop.kernels import ENVIRONMENT_VARIABLE
from brevitas_ftprop.ops import SAVED_FORMS

PARTS = ("forward", "backward", "optimizer")
COMPILED = ("stock", "ours")


def arguments_parser() -> Any:
    parser = build_parser("training_step", __doc__, repetitions=7)
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--acts", nargs="+", choices=ACTS, default=["sign", "int2"])
    parser.add_argument("--batch-size", nargs="+", type=int, default=[16])
    parser.add_argument("--image-size", type=int, help="of AlexNet and ResNet-18, instead of 224")
    parser.add_argument("--precision", choices=["32", "bf16"], default="32")
    parser.add_argument("--saved", nargs="+", choices=SAVED_FORMS, default=list(SAVED_FORMS))
    parser.add_argument("--backend", choices=BACKENDS, default="auto", help="of our quantizers")
    parser.add_argument(
        "--compiled", nargs="*", choices=COMPILED, default=list(COMPILED), help="torch.compile too"
    )
    return parser


def networks(options: Namespace, model: str, act: str) -> dict[str, Callable[[], nn.Module]]:
    """Name of each rival → how it is built."""
    network = NETWORKS[model]
    size = network.chosen_size(options.image_size)
    built = network.rivals(size, act, options.rules, options.saved)
    compiled = {
        f"{name} compiled": partial(compiled_in_place, build)
        for name, build in built.items()
        if name.partition(" ")[0] in options.compiled
    }
    return built | compiled


def compiled_in_place(build: Callable[[], nn.Module]) -> nn.Module:
    """A network compiled with its quantizers; stock ones have that since ``brevitas_ftprop`` lets
    the compiler trace Brevitas' quantized tensors.
    """
    network = build()
    network.compile(dynamic=False)
    return network


def measure(
    options: Namespace, model: str, act: str, batch_size: int, device: torch.device
) -> Rows:
    """One row for each rival."""
    size = NETWORKS[model].chosen_size(options.image_size)
    images, labels = NETWORKS[model].batch(size, batch_size)
    steps = {}
    for name, build in networks(options, model, act).items():
        print(model, act, name, file=sys.stderr, flush=True)
        step = Step(build(), images.to(device), labels.to(device), options.precision)
        # Compiles, and makes the optimizer's state.
        step()
        steps[name] = step
    samples = interleaved(
        {name: step.time for name, step in steps.items()},
        repetitions=options.repetitions,
        least_seconds=0.05,
    )
    peaks = {name: step.peak() for name, step in steps.items()}
    steps.clear()
    gc.collect()
    torch._dynamo.reset()
    return rows_of(
        {"model": model, "act": act, "image_size": size, "batch_size": batch_size},
        samples,
        peaks,
    )


def rows_of(what: dict[str, Any], samples: dict[str, list[Sample]], peaks: dict[str, int]) -> Rows:
    """Medians, and their ratios to the ReLU network's and to stock's of the same run."""
    rows = []
    for name, of_rival in samples.items():
        spreads = {
            part: vars(Spread.of(list(seconds)))
            for part, seconds in zip(PARTS, zip(*of_rival, strict=True), strict=True)
        }
        spreads["step"] = vars(Spread.of([sum(sample) for sample in of_rival]))
        rows.append(
            {
                **what,
                "rival": name,
                "seconds": spreads,
                "images_per_second": what["batch_size"] / spreads["step"]["median"],
                "peak_bytes": peaks[name],
            }
        )
    by_name = {row["rival"]: row for row in rows}
    for row in rows:
        for key, name in (("times_relu", "ReLU"), ("times_stock", "stock")):
            other = by_name[name]
            row[key] = {
                "step": row["seconds"]["step"]["median"] / other["seconds"]["step"]["median"],
                "peak": row["peak_bytes"] / other["peak_bytes"],
            }
    overheads = {name: row["times_relu"]["step"] - 1 for name, row in by_name.items()}
    for name, row in by_name.items():
        # What the quantizers add to the ReLU network's step, and how much of stock's that is.
        row["overhead"] = overheads[name]
        row["overhead_times_stock"] = overheads[name] / (overheads["stock"] or float("nan"))
    return rows


def table(rows: Rows) -> str:
    """Images a second, and the ratios of a step's time and peak memory."""
    return markdown(
        [
            {
                "model": row["model"],
                "activations": row["act"],
                "images": f"{row['batch_size']}x3x{row['image_size']}x{row['image_size']}",
                "rival": row["rival"],
                "step ms": f"{1000 * row['seconds']['step']['median']:.4g}",
                "images/s": f"{row['images_per_second']:.4g}",
                "time, times ReLU": f"{row['times_relu']['step']:.2f}",
                "times stock": f"{row['times_stock']['step']:.2f}",
                "overhead over ReLU": f"{100 * row['overhead']:.1f} %",
                "times stock's": f"{row['overhead_times_stock']:.2f}",
                "peak MB": f"{row['peak_bytes'] / 1e6:.1f}",
                "peak, times stock": f"{row['times_stock']['peak']:.2f}",
            }
            for row in rows
        ]
    )


def figure(rows: Rows) -> Figure:
    """Bars of images a second."""
    by_panel: dict[str, dict[str, float]] = {}
    for row in rows:
        title = f"{row['model']} {row['act']}, batches of {row['batch_size']}"
        by_panel.setdefault(title, {})[row["rival"]] = row["images_per_second"]
    return bar_panels(by_panel, ".4g", "training images a second")


def measured(options: Namespace, device: torch.device) -> Rows:
    rows = []
    with variable(ENVIRONMENT_VARIABLE, options.backend):
        for asked in product(options.models, options.acts, options.batch_size):
            rows += measure(options, *asked, device)
    return rows


def caption(options: Namespace) -> str:
    precision = "bfloat16 autocast" if options.precision == "bf16" else "float32"
    return (
        f"Forward, loss, backward and SGD with momentum, float weights, {precision}; medians "
        f"of {options.repetitions} repetitions in which all rivals take turns. Peak: most that "
        "PyTorch allocates in a step, above weights and optimizer state. "
        f"Backend of our quantizers: {options.backend}."
    )


def main(argv: Sequence[str] | None = None) -> int:
    return run_benchmark(arguments_parser(), argv, measured, table, caption, figure)


if __name__ == "__main__":
    raise SystemExit(main())
