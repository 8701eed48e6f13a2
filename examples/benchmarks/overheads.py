"""What is paid once: the import, the conversion of a network and back, the check and the export.

    python examples/benchmarks/overheads.py
    python examples/benchmarks/overheads.py --export small resnet18 alexnet --repetitions 2
    python examples/benchmarks/overheads.py --modules --models --export --check narrow resnet18

Imports are timed in new processes by themselves, without their start; the others on a newly built
network each time. All take turns. The first time is shown too: it is what a user waits.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

# Before Brevitas.
from brevitas_ftprop import quiet_imports as quiet_imports

# isort: split
import torch
from brevitas.export import export_qonnx as export_stock_qonnx
from jsonargparse import Namespace
from matplotlib.figure import Figure
from measuring.benchmark import Rows, run_benchmark
from measuring.command import BenchmarkError, build_parser
from measuring.figures import bar_panels
from measuring.networks import ACTS, NETWORKS, Network
from measuring.record import markdown
from measuring.timing import Spread

from brevitas_ftprop import (
    check_deployable,
    export_qcdq,
    export_qonnx,
    restore_quantizers,
    swap_quantizers,
)
from brevitas_ftprop.export.accelerator_io import AcceleratorIO
from brevitas_ftprop.export.deployable.check import findings_in
from brevitas_ftprop.export.deployable.graph_view import trace_view
from brevitas_ftprop.models import ConvNet4, QuantResNet18

MODULES = ("torch", "brevitas", "brevitas.nn", "brevitas_ftprop")
TIMED_IMPORT = """
import time
start = time.perf_counter()
import {module}
print(time.perf_counter() - start)
"""
SMALL = Network(
    lambda size, **options: ConvNet4(10, size, channels=(4, 6), fc=8, **options), 16, 10
)
EXPORTED = {"small": SMALL, **NETWORKS}


def _resnet(size: int, classes: int, **own: Any) -> Network:
    def build(image_size: int, **options: Any) -> QuantResNet18:
        return QuantResNet18(classes, form="hardware", **own, **options)

    return Network(build, size, classes)


# ResNet-18 as FINN takes it.
CHECKED = {"narrow": _resnet(32, 10, stem="cifar", base=4), "resnet18": _resnet(224, 1000)}

# Makes something ready, and times what comes then.
Timed = Callable[[], float]


def arguments_parser() -> Any:
    parser = build_parser("overheads", __doc__, repetitions=5)
    parser.add_argument("--modules", nargs="*", choices=MODULES, default=list(MODULES))
    parser.add_argument("--models", nargs="*", choices=NETWORKS, default=["resnet18", "alexnet"])
    parser.add_argument("--export", nargs="*", choices=EXPORTED, default=["small"])
    parser.add_argument("--check", nargs="*", choices=CHECKED, default=[])
    parser.add_argument("--act", choices=ACTS, default="sign")
    return parser


def imports(modules: Sequence[str]) -> dict[tuple[str, str], Timed]:
    """(what, of what) → seconds of an import in a new process."""

    def timed(module: str) -> float:
        command = [sys.executable, "-W", "ignore", "-c", TIMED_IMPORT.format(module=module)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            reason = done.stderr.strip().rpartition("\n")[2]
            raise BenchmarkError(f"import {module} failed: {reason}")
        return float(done.stdout.split()[-1])

    return {("import", module): partial(timed, module) for module in modules}


def conversions(models: Sequence[str], act: str, rule: str) -> dict[tuple[str, str], Timed]:
    """(what, of what) → seconds of a conversion."""

    def swap(network: Network) -> float:
        model = network.stock(network.image_size, act)
        return _seconds(lambda: swap_quantizers(model, rule))

    def restore(network: Network) -> float:
        model = network.ours(network.image_size, act, rule, "exact")
        return _seconds(lambda: restore_quantizers(model))

    return {
        (what, name): partial(function, NETWORKS[name])
        for name in models
        for what, function in (("swap_quantizers", swap), ("restore_quantizers", restore))
    }


def exports(models: Sequence[str], act: str, rule: str) -> dict[tuple[str, str], Timed]:
    """(what, of what) → seconds of an export."""

    def timed(network: Network, export: Callable[..., Any], is_stock: bool) -> float:
        size = network.image_size
        model = network.stock(size, act) if is_stock else network.ours(size, act, rule, "exact")
        model.eval()
        images, _ = network.batch(size, 1)
        with tempfile.TemporaryDirectory() as folder:
            return _seconds(lambda: export(model, images, str(Path(folder) / "model.onnx")))

    ways = {
        "export_qonnx of stock Brevitas": (export_stock_qonnx, True),
        "export_qonnx": (export_qonnx, False),
        "export_qcdq": (export_qcdq, False),
    }
    return {
        (what, name): partial(timed, EXPORTED[name], *way)
        for name in models
        for what, way in ways.items()
    }


def checks(models: Sequence[str], act: str, rule: str) -> dict[tuple[str, str], Timed]:
    """(what, of what) → seconds of a check for FINN, and of its requirements alone."""

    def built(network: Network) -> tuple[torch.nn.Module, torch.Tensor]:
        images, _ = network.batch(network.image_size, 1)
        return network.ours(network.image_size, act, rule, "exact").eval(), images

    def whole(network: Network) -> float:
        model, images = built(network)
        return _seconds(lambda: check_deployable(model, images))

    def requirements(network: Network) -> float:
        model, images = built(network)
        view = trace_view(model, images, "finn", dynamo=True, io=AcceleratorIO())
        return _seconds(lambda: list(findings_in(view, "finn")))

    return {
        (what, name): lambda way=way, name=name: way(CHECKED[name])
        for name in models
        for what, way in (
            ("check_deployable", whole),
            ("check_deployable without tracing", requirements),
        )
    }


def measure(timed: dict[tuple[str, str], Timed], repetitions: int) -> Rows:
    """One row for each; all take turns."""
    samples: dict[tuple[str, str], list[float]] = {key: [] for key in timed}
    for repetition in range(repetitions):
        print(f"repetition {repetition + 1} of {repetitions}", file=sys.stderr, flush=True)
        for key, call in timed.items():
            samples[key].append(call())
    return [
        {
            "what": what,
            "of": of,
            "first_seconds": seconds[0],
            "seconds": vars(Spread.of(seconds)),
        }
        for (what, of), seconds in samples.items()
    ]


def table(rows: Rows) -> str:
    """Seconds: the first, the median, and the quartiles."""
    return markdown(
        [
            {
                "what": row["what"],
                "of": row["of"],
                "first s": f"{row['first_seconds']:.3g}",
                "median s": f"{row['seconds']['median']:.3g}",
                "quartiles s": f"{row['seconds']['low']:.3g} to {row['seconds']['high']:.3g}",
            }
            for row in rows
        ]
    )


def figure(rows: Rows) -> Figure:
    """Bars of the medians: imports, conversions, exports, checks."""
    by_kind: dict[str, dict[str, float]] = {}
    for row in rows:
        verb = row["what"].partition("_")[0]
        kind = f"{verb}s" if verb in ("import", "export", "check") else "conversions"
        name = row["of"] if kind == "imports" else f"{row['what']} {row['of']}"
        by_kind.setdefault(kind, {})[name] = row["seconds"]["median"]
    return bar_panels(by_kind, ".3g", "seconds")


def measured(options: Namespace, device: torch.device) -> Rows:
    if device.type != "cpu":
        raise BenchmarkError("imports, conversions, checks and exports run on the CPU")
    if len(options.rules) > 1:
        raise BenchmarkError("conversions take as long with any rule: give one")
    (rule,) = options.rules
    timed = (
        imports(options.modules)
        | conversions(options.models, options.act, rule)
        | exports(options.export, options.act, rule)
        | checks(options.check, options.act, rule)
    )
    if not timed:
        raise BenchmarkError(
            "there is nothing to time: give --modules, --models, --export or --check"
        )
    return measure(timed, options.repetitions)


def caption(options: Namespace) -> str:
    return (
        f"{options.repetitions} repetitions in which all take turns; networks with "
        f"{options.act} activations and, but for the checked ones, float weights."
    )


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> int:
    return run_benchmark(arguments_parser(), argv, measured, table, caption, figure)


if __name__ == "__main__":
    raise SystemExit(main())
