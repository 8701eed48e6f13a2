"""Memory that quantizers keep for the backward pass, alone and in networks: stock and ours.

    python examples/benchmarks/memory.py
    python examples/benchmarks/memory.py --device cuda --saved exact compact --batch-size 256

Counted are the distinct storages that autograd saves, without parameters, buffers and the network's
input. In a network only what no other layer saves too is the quantizers' own. The peak is that of a
forward and backward pass, above what is allocated before.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from jsonargparse import Namespace
from matplotlib.figure import Figure
from measuring.benchmark import Rows, run_benchmark
from measuring.command import BenchmarkError, build_parser, refuse_size
from measuring.figures import bar_panels
from measuring.kept import kept_for_backward
from measuring.networks import ACTS, NETWORKS
from measuring.peak import peak_bytes
from measuring.quantizers import QUANTIZERS
from measuring.record import markdown
from torch import Tensor, nn

from brevitas_ftprop.ops import SAVED_FORMS

MB = 1e6


class Input(nn.Module):
    """A layer that saves nothing, so that what a quantizer saves of its input is its own."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


def arguments_parser() -> Any:
    parser = build_parser("memory", __doc__)
    parser.add_argument("--quantizers", nargs="*", choices=QUANTIZERS, default=list(QUANTIZERS))
    parser.add_argument("--shape", nargs="+", type=int, default=[64, 128, 28, 28])
    parser.add_argument("--models", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--acts", nargs="+", choices=ACTS, default=["sign", "int2"])
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--image-size", type=int, help="of AlexNet and ResNet-18, instead of 224")
    parser.add_argument("--saved", nargs="+", choices=SAVED_FORMS, default=list(SAVED_FORMS))
    return parser


def measure(what: str, rival: str, network: nn.Module, x: Tensor) -> dict[str, Any]:
    """One row: what is kept for backward, and the peak of a pass."""
    network.to(x.device)
    # Scales start from statistics, and libraries allocate at their first call.
    _pass(network, x)
    kept = kept_for_backward(network, x)
    network.zero_grad()
    x.grad = None
    peak = peak_bytes(lambda: _pass(network, x), x.device)
    return {
        "what": what,
        "rival": rival,
        "shape": list(x.shape),
        "input_bytes": x.nbytes,
        "peak_bytes": peak,
        "kept": asdict(kept),
    }


def _pass(network: nn.Module, x: Tensor) -> None:
    output = network(x)
    # Of a size of its own, as a loss or the next layer gives it.
    output.backward(torch.ones_like(output))


def with_ratios(rows: Rows) -> Rows:
    """Add what quantizers keep in units of what enters them, and the whole relative to stock's."""
    stock = {row["what"]: row for row in rows if row["rival"] == "stock"}
    for row in rows:
        kept, entered = row["kept"], row["kept"]["quantizer_inputs"]
        row["input_sizes"] = kept["by_quantizers"] / entered if entered else None
        reference = stock.get(row["what"])
        row["times_stock"] = reference and {
            "kept": kept["total"] / reference["kept"]["total"],
            "peak": row["peak_bytes"] / reference["peak_bytes"],
        }
    return rows


def table(rows: Rows) -> str:
    """Megabytes, and multiples of what enters the quantizers."""
    lines = []
    for row in rows:
        kept, of_stock = row["kept"], row["times_stock"]
        sizes = row["input_sizes"]
        lines.append(
            {
                "network": row["what"],
                "input": "x".join(map(str, row["shape"])),
                "rival": row["rival"],
                "kept by quantizers, input sizes": "" if sizes is None else f"{sizes:.2f}",
                "kept by quantizers MB": f"{kept['by_quantizers'] / MB:.1f}",
                "kept in all MB": f"{kept['total'] / MB:.1f}",
                "kept, times stock": f"{of_stock['kept']:.2f}" if of_stock else "",
                "peak MB": f"{row['peak_bytes'] / MB:.1f}",
                "peak, times stock": f"{of_stock['peak']:.2f}" if of_stock else "",
            }
        )
    return markdown(lines)


def figure(rows: Rows) -> Figure:
    """Bars of what quantizers keep, in input sizes."""
    by_network: dict[str, dict[str, float]] = {}
    for row in rows:
        of_network = by_network.setdefault(row["what"], {})
        if row["input_sizes"] is not None:
            of_network[row["rival"]] = row["input_sizes"]
    return bar_panels(by_network, ".2f", "kept by quantizers, input sizes")


def measured(options: Namespace, device: torch.device) -> Rows:
    if not options.quantizers and not options.models:
        raise BenchmarkError("there is nothing to measure: give --quantizers or --models")
    refuse_size(options.shape)
    rows = []
    x = torch.randn(options.shape, device=device)
    for name in options.quantizers:
        for rival, build in QUANTIZERS[name].rivals(options.rules, options.saved).items():
            rows.append(measure(name, rival, nn.Sequential(Input(), build()), x.requires_grad_()))
    for model in options.models:
        size = NETWORKS[model].chosen_size(options.image_size)
        images, _ = NETWORKS[model].batch(size, options.batch_size)
        for act in options.acts:
            built = NETWORKS[model].rivals(size, act, options.rules, options.saved)
            for rival, build in built.items():
                print(model, act, rival, file=sys.stderr, flush=True)
                rows.append(measure(f"{model} {act}", rival, build(), images.to(device)))
    return with_ratios(rows)


def caption(options: Namespace) -> str:
    return (
        "float32; distinct storages saved for backward, without parameters, buffers and the "
        "network's input; the quantizers' are those that no other layer saves too. Peak: of a "
        "forward and backward pass, gradients of the parameters included."
    )


def main(argv: Sequence[str] | None = None) -> int:
    return run_benchmark(arguments_parser(), argv, measured, table, caption, figure)


if __name__ == "__main__":
    raise SystemExit(main())
