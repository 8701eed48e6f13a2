"""Time of one quantizer, forward and backward: stock Brevitas, ours, and a bare copy as the floor.

    python examples/benchmarks/quantizer.py
    python examples/benchmarks/quantizer.py --elements 1e4 1e6 1e8 --quantizers sign
    python examples/benchmarks/quantizer.py --device cuda --backends eager compiled triton

All rivals take turns, repetition by repetition, each after an untimed call. Stock Brevitas with
`BREVITAS_JIT=1`, which it reads at its import, takes its turn in a process of its own. Before
anything is timed, rivals that should compute the same are compared. What is allocated is timed too,
out of memory that the process has kept.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jsonargparse import Namespace
from matplotlib.figure import Figure
from measuring.benchmark import Rows, run_benchmark
from measuring.command import BACKENDS, BenchmarkError, build_parser, refuse_size
from measuring.figures import bar_panels, panels
from measuring.quantizers import QUANTIZERS
from measuring.record import markdown
from measuring.rivals import PARTS, STOCK_KINDS, Rival, Setting, Submit, scripted_process
from measuring.timing import Spread, interleaved, keep_freed_memory

from brevitas_ftprop.ops import SAVED_FORMS

# Bytes that have to move, in input sizes: the input is read and the output written; then input and
# gradient are read and a gradient is written.
MOVED = {"forward": 2, "backward": 3}
COPIED = {"forward": 2, "backward": 2}
TOLERANCES = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 1e-3}


def arguments_parser() -> Any:
    parser = build_parser(
        "quantizer", __doc__, rules=["saturated_ste", "soft_hinge"], repetitions=15
    )
    parser.add_argument("--quantizers", nargs="+", choices=QUANTIZERS, default=list(QUANTIZERS))
    parser.add_argument("--shape", nargs="+", type=int, default=[64, 128, 28, 28])
    parser.add_argument(
        "--elements", nargs="+", type=float, default=[], help="instead of --shape: flat tensors"
    )
    parser.add_argument("--dtype", choices=TOLERANCES, default="float32")
    parser.add_argument("--stock", nargs="*", choices=STOCK_KINDS, default=list(STOCK_KINDS))
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=["auto"])
    parser.add_argument("--saved", nargs="+", choices=SAVED_FORMS, default=list(SAVED_FORMS))
    parser.add_argument("--ops", action="store_true", help="the bare autograd functions too")
    parser.add_argument("--least-seconds", type=float, default=0.02, help="timed at a time")
    return parser


def settings(options: Namespace) -> list[Setting]:
    """One for each quantizer and size."""
    shapes = [(int(elements),) for elements in options.elements] or [tuple(options.shape)]
    for shape in shapes:
        refuse_size(shape)
    return [
        Setting(quantizer, shape, options.dtype, options.device, options.threads)
        for quantizer in options.quantizers
        for shape in shapes
    ]


def rivals(options: Namespace, quantizer: str) -> list[Rival]:
    """The copy first, then stock, then ours."""
    kinds = ["ours", "op"] if options.ops else ["ours"]
    stock = options.stock if QUANTIZERS[quantizer].has_stock else []
    return [
        Rival("copy"),
        *(Rival(kind) for kind in stock),
        *(
            Rival(kind, rule, backend, saved)
            for kind in kinds
            for rule in options.rules
            for backend in options.backends
            for saved in options.saved
        ),
    ]


def refuse_different(fingerprints: dict[Rival, tuple[float, ...]], tolerance: float) -> None:
    """Raise unless all outputs are the same, and so are the gradients of one rule."""
    firsts: dict[tuple | None, tuple[Rival, tuple[float, ...]]] = {}
    for rival, numbers in fingerprints.items():
        for key, part in ((None, slice(0, 2)), (rival.gradient, slice(2, 4))):
            first, expected = firsts.setdefault(key, (rival, numbers))
            pairs = zip(numbers[part], expected[part], strict=True)
            if not all(math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance) for a, b in pairs):
                what = "other outputs" if key is None else "other gradients"
                raise BenchmarkError(f"{rival.name} computes {what} than {first.name}")


def measure(
    setting: Setting, competing: Sequence[Rival], options: Namespace, in_scripted_process: Submit
) -> Rows:
    """One row for each rival."""

    def call(function: Callable, rival: Rival, *arguments: object) -> tuple[float, ...]:
        where = in_scripted_process if rival.kind == "stock-jit" else _here
        return where(function, rival, setting, *arguments)

    refuse_different(
        {rival: call(Rival.fingerprint, rival) for rival in competing if rival.kind != "copy"},
        TOLERANCES[setting.dtype],
    )
    samples = interleaved(
        {r.name: lambda number, r=r: call(Rival.time, r, number) for r in competing},
        repetitions=options.repetitions,
        least_seconds=options.least_seconds,
    )
    Rival.forget()
    if any(rival.kind == "stock-jit" for rival in competing):
        in_scripted_process(Rival.forget)
    return rows_of(setting, competing, samples)


def _here(function: Callable, *arguments: object) -> Any:
    return function(*arguments)


def rows_of(
    setting: Setting, competing: Sequence[Rival], samples: dict[str, list[tuple[float, ...]]]
) -> Rows:
    """Medians, and their ratios to the copy's and to stock's of the same run."""
    rows = []
    size = math.prod(setting.shape) * getattr(torch, setting.dtype).itemsize
    for rival in competing:
        parts = dict(zip(PARTS, zip(*samples[rival.name], strict=True), strict=True))
        parts["training"] = [
            forward + backward
            for forward, backward in zip(parts["forward"], parts["backward"], strict=True)
        ]
        spreads = {part: Spread.of(list(seconds)) for part, seconds in parts.items()}
        row = {
            "quantizer": setting.quantizer,
            "shape": setting.shape,
            "rival": rival.name,
            **vars(rival),
            "seconds": {part: vars(spread) for part, spread in spreads.items()},
        }
        moved = COPIED if rival.kind == "copy" else MOVED
        row["gb_per_s"] = {
            "inference": moved["forward"] * size / spreads["inference"].median / 1e9,
            "forward": moved["forward"] * size / spreads["forward"].median / 1e9,
            "backward": moved["backward"] * size / spreads["backward"].median / 1e9,
            "training": sum(moved.values()) * size / spreads["training"].median / 1e9,
        }
        rows.append(row)
    by_name = {row["rival"]: row for row in rows}
    for row in rows:
        for name in ("copy", "stock"):
            row[f"times_{name}"] = {
                part: seconds["median"] / by_name[name]["seconds"][part]["median"]
                for part, seconds in row["seconds"].items()
                if name in by_name
            }
    return rows


def table(rows: Rows) -> str:
    """Medians in milliseconds; ratios are those of forward and backward together."""
    lines = []
    for row in rows:
        milliseconds = {part: 1000 * of["median"] for part, of in row["seconds"].items()}
        of_stock = row["times_stock"]
        lines.append(
            {
                "quantizer": row["quantizer"],
                "shape": "x".join(map(str, row["shape"])),
                "rival": row["rival"],
                **{f"{part} ms": f"{milliseconds[part]:.3g}" for part in PARTS},
                "forward + backward ms": f"{milliseconds['training']:.3g}",
                "times copy": f"{row['times_copy']['training']:.2f}",
                "times stock": f"{of_stock['training']:.2f}" if of_stock else "",
                "GB/s": f"{row['gb_per_s']['training']:.3g}",
            }
        )
    return markdown(lines)


def figure(rows: Rows) -> Figure:
    """With one size, bars of the ratio to the copy; with more, nanoseconds an element over them."""
    by_quantizer: dict[str, dict[str, Rows]] = {}
    for row in rows:
        by_quantizer.setdefault(row["quantizer"], {}).setdefault(row["rival"], []).append(row)
    if len({row["shape"] for row in rows}) == 1:
        ratios = {
            quantizer: {rival: row["times_copy"]["training"] for rival, (row,) in by_rival.items()}
            for quantizer, by_rival in by_quantizer.items()
        }
        return bar_panels(ratios, ".2f", "forward + backward, times a copy")
    drawing, axes = panels(len(by_quantizer), len({row["rival"] for row in rows}))
    for panel, (quantizer, by_rival) in zip(axes, by_quantizer.items(), strict=True):
        for rival, of_rival in by_rival.items():
            elements = [math.prod(row["shape"]) for row in of_rival]
            seconds = [row["seconds"]["training"]["median"] for row in of_rival]
            each = [1e9 * s / n for s, n in zip(seconds, elements, strict=True)]
            panel.loglog(elements, each, "o-", markersize=3, label=rival)
        panel.set_title(f"{quantizer}, forward + backward", fontsize=10)
        panel.set_xlabel("elements")
        panel.set_ylabel("ns an element")
        panel.legend(fontsize=6)
    return drawing


def measured(options: Namespace, device: torch.device) -> Rows:
    keep_freed_memory()
    rows = []
    with scripted_process(options.threads) as in_scripted_process:
        for setting in settings(options):
            print(f"{setting.quantizer} {setting.shape}", file=sys.stderr, flush=True)
            competing = rivals(options, setting.quantizer)
            rows += measure(setting, competing, options, in_scripted_process)
    return rows


def caption(options: Namespace) -> str:
    return (
        f"One quantizer layer, {options.dtype}; medians of {options.repetitions} repetitions "
        "in which all rivals take turns. GB/s count the bytes that have to move: input and "
        "output forward, input, gradient and gradient backward (of a copy: what it moves)."
    )


def main(argv: Sequence[str] | None = None) -> int:
    return run_benchmark(arguments_parser(), argv, measured, table, caption, figure)


if __name__ == "__main__":
    raise SystemExit(main())
