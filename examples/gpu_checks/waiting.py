"""Steps during which the host never waits for the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import torch
from measuring.variable import variable
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from brevitas_ftprop import swap_quantizers
from brevitas_ftprop.kernels import ENVIRONMENT_VARIABLE

from .check import Check
from .networks import batch_size, network_of, step_of

ACTS = ("sign", "int2", "staircase3")
RULES = ("saturated_ste", "soft_hinge")
FORMS = ("exact", "compact")
READS = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select")
STEPS = 3


def run(check: Check) -> None:
    rules, forms = (RULES[1:], FORMS[:1]) if check.small else (RULES, FORMS)
    for rule, saved, act in product(rules, forms, ACTS):
        name = f"{act} {rule} {saved}"
        if check.case(name, steps, act, rule, saved, check):
            check.row("ConvNet8, steps that read nothing from the device", step=name, steps=STEPS)
    if check.small:
        check.note(
            "On the CPU, by operators that read a tensor's value and with the eager backend; on a "
            "GPU by torch.cuda.set_sync_debug_mode and with the one that it chooses."
        )


def steps(act: str, rule: str, saved: str, check: Check) -> bool:
    """Train until every scale is learned, then a few steps under watch."""
    kind = network_of("convnet8", check)
    torch.manual_seed(0)
    network = kind.build(kind.image_size, act=act)
    swap_quantizers(network, rule, saved=saved)
    learn_at_once(network)
    step = step_of(network, "convnet8", batch_size(check), check)
    with variable(ENVIRONMENT_VARIABLE, "eager" if check.small else None):
        for _ in range(STEPS):
            step()
        with watched(check):
            for _ in range(STEPS):
                step()
    return True


def learn_at_once(network: nn.Module) -> None:
    """Have scales be learned from the second step on, not after hundreds that collect them."""
    for module in network.modules():
        if hasattr(module, "collect_stats_steps"):
            module.collect_stats_steps = 1


@contextmanager
def watched(check: Check) -> Iterator[None]:
    """Raise at whatever waits for the device."""
    if check.small:
        with _NoReading():
            yield
        return
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class _NoReading(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in READS:
            raise AssertionError(f"{name} reads a tensor's value on the host")
        return func(*args, **(kwargs or {}))
