"""What the commands of all benchmarks have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from jsonargparse import ArgumentParser, Namespace

from brevitas_ftprop import RULES, get_rule, kernels

BACKENDS = ("auto", *kernels.BACKENDS)
# Elements of the tensors that are measured.
SMALLEST, LARGEST = 8, 10**11


class BenchmarkError(Exception):
    """A benchmark that cannot be made, in one sentence."""


def build_parser(
    name: str,
    doc: str | None,
    *,
    rules: Sequence[str] = ("soft_hinge",),
    repetitions: int | None = None,
) -> ArgumentParser:
    """A parser with the options that every benchmark takes."""
    parser = ArgumentParser(prog=f"{name}.py", description=(doc or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder to write to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rules", nargs="+", default=list(rules), help='"all" for every rule')
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on the CPU")
    if repetitions is not None:
        parser.add_argument("--repetitions", type=int, default=repetitions)
    return parser


def prepare(options: Namespace) -> torch.device:
    """Check the common options, set the number of threads, and fix the seed.

    Rules get their canonical names; ``--rules all`` is every rule.

    Raises:
        BenchmarkError: for a number that is not positive, or a GPU that is not there.
        ValueError: for an unknown rule.
    """
    for name in ("threads", "repetitions", "batch_size", "image_size"):
        values = options.get(name)
        for value in values if isinstance(values, list) else [values]:
            if value is not None and value < 1:
                raise BenchmarkError(f"--{name.replace('_', '-')} must be positive, not {value}")
    if options.get("rules") == ["all"]:
        options.rules = list(RULES)
    if options.get("rules"):
        options.rules = [get_rule(rule).spec for rule in options.rules]
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BenchmarkError("--device cuda: PyTorch finds no GPU here")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    return device


def refuse_size(shape: Sequence[int]) -> None:
    """Raise for a tensor that cannot be, or is too small to compare what rivals make of it."""
    if min(shape) < 1 or not SMALLEST <= math.prod(shape) <= LARGEST:
        raise BenchmarkError(
            f"a tensor must have {SMALLEST} to {LARGEST:.0e} elements, not "
            f"{'x'.join(map(str, shape))}"
        )
