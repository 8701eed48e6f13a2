"""What a simulation of a whole accelerator costs: compilation, a frame, and which nodes it is for.

    python examples/benchmarks/accelerator.py
    python examples/benchmarks/accelerator.py --networks small alexnet --frames 5

Each network is exported by `export_finn`, compiled into an empty cache, and simulated on random
images. It needs the extras `finn` and `rtl`, and a C++ compiler.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Before Brevitas.
from brevitas_ftprop import quiet_imports as quiet_imports

# isort: split
import torch
from jsonargparse import Namespace
from matplotlib.figure import Figure
from measuring.benchmark import Rows, run_benchmark
from measuring.command import BenchmarkError, build_parser
from measuring.figures import bar_panels
from measuring.networks import ACTS
from measuring.record import markdown

from brevitas_ftprop.export import export_finn, simulate_accelerator
from brevitas_ftprop.models import ConvNet4, QuantAlexNet

NARROW = (8, 16, 16, 16, 16)
# As they are simulated in the tests.
NETWORKS = {
    "small": (16, lambda **options: ConvNet4(10, 16, channels=(4, 6), fc=8, **options)),
    "alexnet": (64, lambda **options: QuantAlexNet(10, 64, channels=NARROW, fc=32, **options)),
}
REST = "FIFOs and the rest"


def arguments_parser() -> Any:
    parser = build_parser("accelerator", __doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["alexnet"])
    parser.add_argument("--act", choices=ACTS, default="sign")
    parser.add_argument("--frames", type=int, default=3)
    return parser


def measured(options: Namespace, device: torch.device) -> Rows:
    if device.type != "cpu":
        raise BenchmarkError("accelerators are simulated on the CPU")
    if options.frames < 1:
        raise BenchmarkError(f"--frames must be positive, not {options.frames}")
    rows: Rows = []
    for name in options.networks:
        print(name, file=sys.stderr, flush=True)
        rows.append({"network": name, **_simulated(name, options)})
    return rows


def _simulated(name: str, options: Namespace) -> dict[str, Any]:
    size, build = NETWORKS[name]
    model = build(act=options.act, form="hardware")
    images = torch.randn(options.frames, 3, size, size)
    model(images)
    with tempfile.TemporaryDirectory() as folder:
        export = Path(folder) / "export"
        export_finn(model.eval(), images[:1], export, result="class", progress=False)
        given = images.permute(0, 2, 3, 1).numpy()
        begun = time.perf_counter()
        report = simulate_accelerator(export, given, cache=Path(folder) / "cache", progress=False)
        seconds = time.perf_counter() - begun
    effort: Counter[str] = Counter()
    for node in report.nodes:
        effort[node.op_type] += node.effort
    effort[REST] = max(0.0, 1 - effort.total())
    return {
        "nodes": len(report.nodes),
        "compiled": report.compiled,
        "compilation_seconds": seconds - report.seconds,
        "frame_seconds": report.seconds / options.frames,
        "cycles_a_second": report.cycles / report.seconds,
        "effort": dict(effort.most_common()),
    }


def table(rows: Rows) -> str:
    """Seconds, and the kinds of nodes that the simulation's time goes into."""
    return markdown(
        [
            {
                "network": row["network"],
                "nodes": row["nodes"],
                "compiled": row["compiled"],
                "compilation s": f"{row['compilation_seconds']:.0f}",
                "frame s": f"{row['frame_seconds']:.2g}",
                "cycles a second": f"{row['cycles_a_second']:.2g}",
                "time goes into": ", ".join(
                    f"{kind} {share:.0%}" for kind, share in row["effort"].items() if share >= 0.01
                ),
            }
            for row in rows
        ]
    )


def figure(rows: Rows) -> Figure:
    """Bars of the shares of the simulation's time."""
    return bar_panels({row["network"]: row["effort"] for row in rows}, ".0%", "share of the time")


def caption(options: Namespace) -> str:
    return (
        f"{options.frames} frames, FIFOs of the export's depths, {options.act} activations, an "
        "empty cache; compilation with FINN's own code generation, frames with the report."
    )


def main(argv: Sequence[str] | None = None) -> int:
    return run_benchmark(arguments_parser(), argv, measured, table, caption, figure)


if __name__ == "__main__":
    raise SystemExit(main())
