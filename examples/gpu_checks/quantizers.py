"""Single quantizers, forward and backward: by each backend and by stock, in times of a copy."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import torch
from measuring.quantizers import QUANTIZERS
from measuring.timing import Mark, Sample, Spread, interleaved, laps
from measuring.variable import variable
from torch import Tensor, nn

from brevitas_ftprop.kernels import ENVIRONMENT_VARIABLE

from .check import Check

PAIRS = (
    ("sign", "saturated_ste"),
    ("uint2_learned", "saturated_ste"),
    ("sign", "soft_hinge"),
    ("int4_learned", "soft_hinge"),
    ("staircase3", "soft_hinge"),
)
# Each takes the compiler seconds, and by each of these it does something else.
COMPILED_PAIRS = PAIRS[1:3]
DTYPES = (torch.float32, torch.bfloat16)
# Of gradients, relative to the largest: eager rounds every operation to the dtype, kernels one.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 6e-2}


class Setting(NamedTuple):
    """What all rivals of a case have in common."""

    quantizer: str
    rule: str
    size: int
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"{self.quantizer} {self.rule} {self.size:.0e} {str(self.dtype)[6:]}"


def run(check: Check) -> None:
    fastest = "blocked" if check.small else "triton"
    sizes = (10**4,) if check.small else (10**6, 10**8, 10**4)
    pairs = PAIRS[1:3] if check.small else PAIRS
    for size, dtype, pair in product(sizes, DTYPES, pairs):
        setting = Setting(*pair, size, dtype)
        rivals = [fastest, "eager", "stock"]
        check.case(str(setting), measure, check, setting, rivals)
    if check.small:
        check.tell(event="skipped", case="triton", why="needs a GPU; blocks take its place here")
        check.tell(event="skipped", case="compiled", why="takes a CPU's compiler half a minute")
    for size, dtype, pair in [] if check.small else product(sizes, DTYPES, COMPILED_PAIRS):
        setting = Setting(*pair, size, dtype)
        check.case(f"{setting} compiled", measure, check, setting, ["compiled", fastest])
    clock = "" if check.small else " By the GPU's clock, with calls sent without waiting between."
    check.note(
        f"Forward + backward of a layer in times of two copies of its input; medians.{clock}"
    )


def measure(check: Check, setting: Setting, names: list[str]) -> None:
    """A row for each rival; before that, all have to compute what eager does."""
    torch.manual_seed(0)
    options = {"dtype": setting.dtype, "device": check.device}
    x = torch.randn(setting.size, **options).requires_grad_()
    grad = torch.randn(setting.size, **options)
    calls = {name: rival(name, setting, check) for name in names if exists(name, setting)}
    refuse_different(calls, setting, x, grad, check)
    timed = {name: timing(call, x, grad, check) for name, call in calls.items()}
    timed["copy"] = timing(None, x, grad, check)
    samples = interleaved(
        timed, repetitions=3 if check.small else 5, least_seconds=0.002 if check.small else 0.01
    )
    seconds = {
        name: [Spread.of(list(part)).median for part in zip(*of_rival, strict=True)]
        for name, of_rival in samples.items()
    }
    for name, (forward, backward) in seconds.items():
        row = {"forward µs": 1e6 * forward, "backward µs": 1e6 * backward}
        row["times copy"] = (forward + backward) / sum(seconds["copy"])
        if "stock" in seconds:
            row["stock, times this"] = sum(seconds["stock"]) / (forward + backward)
        check.row(
            f"{setting.size:.0e} elements",
            quantizer=setting.quantizer,
            rule=setting.rule if name not in ("copy", "stock") else "",
            dtype=str(setting.dtype)[6:],
            by=name,
            **row,
        )


class Layer:
    """A quantizer's layer, computed by one backend."""

    def __init__(self, layer: nn.Module, backend: str | None) -> None:
        self.layer, self.backend = layer, backend
        self.learned = list(layer.parameters())

    def __call__(self, x: Tensor, grad: Tensor, mark: Mark = lambda: None) -> list[Tensor]:
        with variable(ENVIRONMENT_VARIABLE, self.backend):
            mark()
            y = self.layer(x)
            mark()
            gradients = torch.autograd.grad(y, [x, *self.learned], grad)
            y = y.detach()
            mark()
        return [y, *gradients]


def exists(name: str, setting: Setting) -> bool:
    return name != "stock" or QUANTIZERS[setting.quantizer].has_stock


def rival(name: str, setting: Setting, check: Check) -> Layer:
    quantizer = QUANTIZERS[setting.quantizer]
    # Scales start from statistics, which the fastest backend of a CPU computes here.
    layer = quantizer.stock() if name == "stock" else quantizer.ours(setting.rule, "exact")
    return Layer(layer.to(check.device, setting.dtype), None if name == "stock" else name)


def refuse_different(
    calls: dict[str, Layer], setting: Setting, x: Tensor, grad: Tensor, check: Check
) -> None:
    """Raise unless outputs are eager's to the bit, and gradients as near as they are known."""
    eager = calls.get("eager") or rival("eager", setting, check)
    expected, *expected_gradients = eager(x, grad)
    for name, call in calls.items():
        y, *gradients = call(x, grad)
        if not torch.equal(y, expected):
            share = (y != expected).float().mean().item()
            raise AssertionError(f"{name}: {share:.2e} of the outputs differ from eager's")
        if name == "stock":
            continue
        for what, one, other in zip(("x", "scale"), gradients, expected_gradients, strict=False):
            # A sum of terms of both signs is known as well as the sum of their sizes.
            known_to = other.abs().max() if what == "x" else grad.abs().sum(dtype=torch.float64)
            far = (one.double() - other.double()).abs().max() / known_to
            if not far <= TOLERANCE[setting.dtype]:
                raise AssertionError(f"{name}: the gradient of {what} is {far:.2e} from eager's")


def timing(call: Layer | None, x: Tensor, grad: Tensor, check: Check) -> Callable[[int], Sample]:
    """Mean seconds of forward and backward over so many calls; None copies."""
    data = x.detach()

    def copied(mark: Mark) -> None:
        for source in (data, grad):
            mark()
            source.clone()
        mark()

    def computed(mark: Mark) -> None:
        call(x, grad, mark)

    one = copied if call is None else computed

    def timed(number: int) -> Sample:
        # Whoever had its turn before has filled the caches.
        one(lambda: None)
        return laps(one, number, check.device)

    return timed
