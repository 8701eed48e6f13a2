"""A training step of whole networks: without quantizers, stock and ours; plain, compiled, graphed.

What has to be compiled is so in processes of their own, all at once, which then time their steps
one after another: the compiler takes a minute for each, and has many cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import product
from typing import Any, NamedTuple

import torch
from measuring.step import Step
from measuring.timing import Spread, laps
from measuring.variable import variable
from torch import nn

from brevitas_ftprop.kernels import ENVIRONMENT_VARIABLE

from .check import Check, Unavailable
from .graphs import GraphedStep, refuse_unequal
from .networks import batch_size, network_of, step_of

MODELS = ("convnet8", "resnet18")
RULE = "soft_hinge"
# Seconds that timing a step takes which is compiled.
TIMING = 2.0


class Variant(NamedTuple):
    """One way to make a step.

    Attributes:
        model: ``convnet8`` or ``resnet18``.
        act: quantizer of the activations.
        kind: ``ReLU``, ``stock``, ``ours`` or ``ours compact``.
        mode: ``plain``, ``graph``, ``compiled`` or ``compiled formulas``, which are the rules'
            formulas offered to the compiler.
    """

    model: str
    act: str
    kind: str
    mode: str = "plain"

    def __str__(self) -> str:
        return " ".join(self)

    def network(self, check: Check) -> nn.Module:
        network = network_of(self.model, check)
        size = network.image_size
        if self.kind == "ReLU":
            return network.float(size)
        if self.kind == "stock":
            return network.stock(size, self.act)
        saved = "compact" if self.kind.endswith("compact") else "exact"
        return network.ours(size, self.act, RULE, saved)


def run(check: Check) -> None:
    times: dict[Variant, float] = {}

    def tell(variant: Variant, found: dict[str, float] | None) -> None:
        if found is not None:
            times[variant] = found["seconds"]
            check.row(f"{variant.model}, {describe(check)}", **row(variant, found, times, check))

    models = MODELS[:1] if check.small else MODELS
    for model, kind in product(models, ("ReLU", "stock", "ours")):
        variant = Variant(model, "sign", kind)
        tell(variant, check.case(str(variant), measured, variant, check))
    for model in models:
        variant = Variant(model, "sign", "ours", "graph")
        check.case(f"{variant} is the plain step to the bit", refuse_unequal, variant, check)
        tell(variant, check.case(str(variant), measured, variant, check))
    modes = [("ours", "compiled"), ("stock", "compiled"), ("ours", "compiled formulas")]
    # Each takes a CPU ten seconds.
    modes = modes[:1] if check.small else modes
    variants = [Variant(model, "sign", *mode) for mode in modes for model in models]
    how = measured_in_turn if check.small else measured_together
    for variant, found in how(variants, check):
        tell(variant, found)
    # A CPU in small has one of these, since a narrow ResNet-18 takes seconds.
    rest = [("sign", "ours compact"), ("int2", "stock"), ("int2", "ours")]
    last = [("resnet18", rest[0])] if check.small else product(models, rest)
    for model, (act, kind) in last:
        variant = Variant(model, act, kind)
        tell(variant, check.case(str(variant), measured, variant, check))
    check.note(
        "Forward, loss, backward and SGD with momentum, float weights. Peak: above weights and "
        "optimizer's state; of a graph, what its recording allocates."
    )


def describe(check: Check) -> str:
    precision = "bfloat16 autocast, channels last"
    return f"batches of {batch_size(check)}{', narrow' if check.small else ''}, {precision}"


def row(
    variant: Variant, found: dict[str, float], times: dict[Variant, float], check: Check
) -> dict[str, Any]:
    """What stands in the table; ratios to the plain steps without quantizers and with stock's."""
    columns: dict[str, Any] = {
        "activations": "ReLU" if variant.kind == "ReLU" else variant.act,
        "network": variant.kind,
        "mode": variant.mode,
        "step ms": 1e3 * found["seconds"],
        "images/s": batch_size(check) / found["seconds"],
        "peak MB": found["peak"] / 1e6,
    }
    for name, other in (
        ("times ReLU", Variant(variant.model, "sign", "ReLU")),
        ("times stock", variant._replace(kind="stock", mode="plain")),
    ):
        if other in times:
            columns[name] = found["seconds"] / times[other]
    return columns


def backend(variant: Variant) -> str | None:
    return "compiled" if variant.mode == "compiled formulas" else None


def prepared(variant: Variant, check: Check) -> Step | GraphedStep:
    """A step that has run before, so that nothing is compiled or set up any more."""
    if variant.mode == "graph" and check.small:
        raise Unavailable("CUDA graphs need a GPU")
    network = variant.network(check)
    step = step_of(network, variant.model, batch_size(check), check)
    if variant.mode.startswith("compiled"):
        # Inductor takes a CPU minutes, for the same graphs.
        network.compile(dynamic=False, backend="aot_eager" if check.small else "inductor")
    with variable(ENVIRONMENT_VARIABLE, backend(variant)):
        for _ in range(1 if check.small else 3):
            step()
    return GraphedStep(step) if variant.mode == "graph" else step


def measured(variant: Variant, check: Check) -> dict[str, float]:
    """Seconds of a step and its peak of memory."""
    return timed(prepared(variant, check), variant, check)


def timed(step: Step | GraphedStep, variant: Variant, check: Check) -> dict[str, float]:
    def call(mark: Callable[[], None]) -> None:
        mark()
        step()
        mark()

    with variable(ENVIRONMENT_VARIABLE, backend(variant)):
        (once,) = laps(call, 1, check.device)
        number = 1 if check.small else max(1, min(100, int(0.3 / once)))
        samples = [laps(call, number, check.device)[0] for _ in range(2 if check.small else 5)]
        return {"seconds": Spread.of(samples).median, "peak": step.peak()}


def measured_in_turn(variants: list[Variant], check: Check):
    for variant in variants:
        yield variant, check.case(str(variant), measured, variant, check)
        torch._dynamo.reset()


def measured_together(variants: list[Variant], check: Check):
    """Compile all at once, each in a process; time each alone when all are done or time is up."""
    variants = [variant for variant in variants if str(variant) not in check.done]
    processes = [in_a_process(variant, check) for variant in variants]
    with ThreadPoolExecutor(max(1, len(processes))) as threads:
        told = [threads.submit(process.stdout.readline) for process in processes]
        try:
            wait(told, max(1.0, check.soft - TIMING * len(told) - time.time()))
            for variant, process, line in zip(variants, processes, told, strict=True):
                if line.done():
                    yield variant, check.case(str(variant), answer, process, line.result())
                else:
                    check.tell(event="left_out", case=f"{variant}, which was still compiling")
        finally:
            for process in processes:
                process.kill()
                process.wait()


def in_a_process(variant: Variant, check: Check) -> subprocess.Popen:
    request = {
        "variant": variant,
        "device": check.device.type,
        "out": str(check.out),
        "work": str(check.work),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "gpu_checks.compiled_step", json.dumps(request)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen, told: str) -> dict[str, float]:
    """Have a process that is ready time its step.

    Raises:
        RuntimeError: with what went wrong in it.
    """
    if told.startswith("ready"):
        told, _ = process.communicate("go\n")
    try:
        found = json.loads(told)
    except ValueError:
        raise RuntimeError(f"its process ended with code {process.wait()}: see the log") from None
    if "error" in found:
        raise RuntimeError(found["error"])
    return found
