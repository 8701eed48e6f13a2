"""Time that the host takes for one quantizer before a GPU gets to work: stock Brevitas and ours.

    python examples/benchmarks/host_time.py
    python examples/benchmarks/host_time.py --quantizers sign --elements 1e4

It needs no GPU: tensors lie on the CPU and are small, Triton's kernels are compiled but launched
into nothing, and torch's own operations stand for their launches. Of ours, the time of the bare
operator is shown beside the layer's, and that of both passes called directly, without dispatcher
and autograd.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jsonargparse import Namespace
from matplotlib.figure import Figure
from measuring.bare import BareOp
from measuring.benchmark import Rows, run_benchmark
from measuring.command import build_parser, refuse_size
from measuring.figures import bar_panels
from measuring.no_gpu import LAUNCHED, launch_nothing
from measuring.quantizers import QUANTIZERS
from measuring.record import markdown
from measuring.timing import Spread, interleaved

from brevitas_ftprop.kernels import ENVIRONMENT_VARIABLE
from brevitas_ftprop.kernels.backends import triton_backend

Call = Callable[[], object]


def arguments_parser() -> Any:
    parser = build_parser("host_time", __doc__, rules=["saturated_ste"], repetitions=15)
    parser.add_argument("--quantizers", nargs="+", choices=QUANTIZERS, default=list(QUANTIZERS))
    parser.add_argument("--elements", type=float, default=16, help="of the tensors")
    parser.add_argument("--least-seconds", type=float, default=0.02, help="timed at a time")
    return parser


def training_step(module: torch.nn.Module, x: torch.Tensor, grad: torch.Tensor) -> Call:
    """Forward and backward pass of a module."""
    learned = [x, *module.parameters()]
    return lambda: torch.autograd.grad(module(x), learned, grad)


def passes(step: Call) -> Call:
    """The two passes of the kernels that a step ends in, with the arguments that they get there."""
    calls: list[Call] = []

    def noting(function: Callable) -> Callable:
        def call(*arguments: Any) -> Any:
            calls.append(lambda: function(*arguments))
            return function(*arguments)

        return call

    whole = triton_backend.forward, triton_backend.backward
    triton_backend.forward, triton_backend.backward = map(noting, whole)
    try:
        step()
    finally:
        triton_backend.forward, triton_backend.backward = whole
    return lambda: [call() for call in calls]


def rivals(quantizer: str, rule: str, elements: int) -> dict[str, Call]:
    """Name → what is timed."""
    x, grad = torch.randn(elements, requires_grad=True), torch.randn(elements)
    found = {}
    if QUANTIZERS[quantizer].has_stock:
        found["stock"] = training_step(QUANTIZERS[quantizer].stock(), x, grad)
    ours = training_step(QUANTIZERS[quantizer].ours(rule, "exact"), x, grad)
    return found | {
        "ours": ours,
        "ours, operator": training_step(BareOp(quantizer, rule, "exact"), x, grad),
        "ours, passes": passes(ours),
    }


def measure(quantizer: str, rule: str, options: Namespace) -> Rows:
    """One row for each rival."""
    competing = rivals(quantizer, rule, int(options.elements))
    launches = {}
    for name, call in competing.items():
        call()
        before = LAUNCHED[0]
        call()
        launches[name] = LAUNCHED[0] - before

    def timed(call: Call, number: int) -> tuple[float]:
        # Of this process alone, whatever else the machine does.
        start = time.process_time()
        for _ in range(number):
            call()
        return ((time.process_time() - start) / number,)

    samples = interleaved(
        {name: lambda number, call=call: timed(call, number) for name, call in competing.items()},
        repetitions=options.repetitions,
        least_seconds=options.least_seconds,
    )
    spreads = {name: Spread.of([one for (one,) in each]) for name, each in samples.items()}
    stock = spreads.get("stock")
    return [
        {
            "quantizer": quantizer,
            "rule": rule,
            "rival": name,
            "launches": launches[name],
            "seconds": vars(spread),
            "times_stock": spread.median / stock.median if stock else None,
        }
        for name, spread in spreads.items()
    ]


def table(rows: Rows) -> str:
    """Medians in microseconds."""
    return markdown(
        [
            {
                "quantizer": row["quantizer"],
                "rule": row["rule"],
                "rival": row["rival"],
                "host us": f"{1e6 * row['seconds']['median']:.0f}",
                "times stock": f"{row['times_stock']:.2f}" if row["times_stock"] else "",
                "Triton launches": str(row["launches"]),
            }
            for row in rows
        ]
    )


def figure(rows: Rows) -> Figure:
    """Bars for each quantizer."""
    by_quantizer: dict[str, dict[str, float]] = {}
    for row in rows:
        of_quantizer = by_quantizer.setdefault(row["quantizer"], {})
        of_quantizer[f"{row['rival']} {row['rule']}"] = 1e6 * row["seconds"]["median"]
    return bar_panels(by_quantizer, ".0f", "forward + backward, us of the host")


def measured(options: Namespace, device: torch.device) -> Rows:
    refuse_size((int(options.elements),))
    launch_nothing()
    os.environ[ENVIRONMENT_VARIABLE] = "triton"
    rows = []
    for quantizer in options.quantizers:
        print(quantizer, file=sys.stderr, flush=True)
        for rule in options.rules:
            rows += measure(quantizer, rule, options)
    return rows


def caption(options: Namespace) -> str:
    return (
        f"Host's time of one quantizer layer, forward and backward, {int(options.elements)} "
        f"elements, kernels launched into nothing; medians of {options.repetitions} repetitions "
        "in which all rivals take turns."
    )


def main(argv: Sequence[str] | None = None) -> int:
    return run_benchmark(arguments_parser(), argv, measured, table, caption, figure)


if __name__ == "__main__":
    raise SystemExit(main())
