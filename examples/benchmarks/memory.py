"""Memory that quantizers keep for the backward pass, alone and in networks: stock and ours.

    python examples/benchmarks/memory.py
    python examples/benchmarks/memory.py --device cuda --saved exact compact --batch-size 256

Counted are the distinct storages that autograd saves, without parameters, buffers and the network's
input. In a network only what no other layer saves too is the quantizers' own. The peak is that of a
forward and backward pass, above what is allocated before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from jsonargparse import Namespace
from measuring.command import (
    BenchmarkError,
    build_parser,
    exit_code,
    parameters,
    prepare,
    refuse_size,
)
from measuring.figures import bars, panels
from measuring.kept import kept_for_backward
from measuring.networks import ACTS, NETWORKS
from measuring.peak import peak_bytes
from measuring.quantizers import QUANTIZERS
from measuring.record import Record, environment, markdown
from torch import Tensor, nn

from brevitas_ftprop.ops import SAVED_FORMS

MB = 1e6
Build = Callable[[], nn.Module]


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


def single_quantizers(options: Namespace) -> Iterator[tuple[str, str, Build]]:
    """Name of the quantizer, name of the rival, and how it is made."""
    for name in options.quantizers:
        quantizer = QUANTIZERS[name]
        if quantizer.has_stock:
            yield name, "stock", quantizer.stock
        for rule, saved in _variants(options):
            yield (
                name,
                f"ours {rule} {saved}",
                lambda quantizer=quantizer, rule=rule, saved=saved: quantizer.ours(rule, saved),
            )


def whole_networks(options: Namespace, model: str) -> Iterator[tuple[str, str, Build]]:
    """As :func:`single_quantizers`, for one network and the activations that are asked for."""
    network = NETWORKS[model]
    size = network.chosen_size(options.image_size)
    for act in options.acts:
        name = f"{model} {act}"
        yield name, "ReLU", lambda: network.float(size)
        yield name, "stock", lambda act=act: network.stock(size, act)
        for rule, saved in _variants(options):
            yield (
                name,
                f"ours {rule} {saved}",
                lambda act=act, rule=rule, saved=saved: network.ours(size, act, rule, saved),
            )


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


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
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


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Megabytes, and multiples of what enters the quantizers."""
    header = (
        "network",
        "input",
        "rival",
        "kept by quantizers, input sizes",
        "kept by quantizers MB",
        "kept in all MB",
        "times stock",
        "peak MB",
        "times stock",
    )
    lines = []
    for row in rows:
        kept, of_stock = row["kept"], row["times_stock"]
        lines.append(
            (
                row["what"],
                "x".join(map(str, row["shape"])),
                row["rival"],
                "" if row["input_sizes"] is None else f"{row['input_sizes']:.2f}",
                f"{kept['by_quantizers'] / MB:.1f}",
                f"{kept['total'] / MB:.1f}",
                f"{of_stock['kept']:.2f}" if of_stock else "",
                f"{row['peak_bytes'] / MB:.1f}",
                f"{of_stock['peak']:.2f}" if of_stock else "",
            )
        )
    return markdown(header, lines)


def figure(rows: Sequence[dict[str, Any]]) -> Any:
    """Bars of what quantizers keep, in input sizes."""
    names = list(dict.fromkeys(row["what"] for row in rows))
    drawing, axes = panels(len(names), len({row["rival"] for row in rows}))
    for panel, name in zip(axes, names, strict=True):
        sizes = {
            row["rival"]: row["input_sizes"]
            for row in rows
            if row["what"] == name and row["input_sizes"] is not None
        }
        bars(panel, name, sizes, ".2f", "kept by quantizers, input sizes")
    return drawing


def run(options: Namespace) -> None:
    device = prepare(options)
    if not options.quantizers and not options.models:
        raise BenchmarkError("there is nothing to measure: give --quantizers or --models")
    refuse_size(options.shape)
    around = environment(device)
    rows = []
    x = torch.randn(options.shape, device=device)
    for what, rival, build in single_quantizers(options):
        rows.append(measure(what, rival, nn.Sequential(Input(), build()), x.requires_grad_()))
    for model in options.models:
        size = NETWORKS[model].chosen_size(options.image_size)
        images, _ = NETWORKS[model].batch(size, options.batch_size)
        for what, rival, build in whole_networks(options, model):
            print(what, rival, file=sys.stderr, flush=True)
            rows.append(measure(what, rival, build(), images.to(device)))
    record = Record(
        benchmark="memory",
        parameters=parameters(options),
        environment=around,
        rows=with_ratios(rows),
    )
    text = (
        "float32; distinct storages saved for backward, without parameters, buffers and the "
        "network's input; the quantizers' are those that no other layer saves too. Peak: of a "
        "forward and backward pass, gradients of the parameters included."
    )
    record.publish(options.out, table(rows), text, figure(rows))


def _variants(options: Namespace) -> list[tuple[str, str]]:
    return [(rule, saved) for rule in options.rules for saved in options.saved]


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments_parser().parse_args(argv)
    return exit_code("memory.py", lambda: run(options))


if __name__ == "__main__":
    raise SystemExit(main())
