"""Optimizer, its groups of parameters, and the learning rate over time."""

from __future__ import annotations

import math
from typing import Any

import torch
from brevitas.proxy.quant_proxy import QuantProxyFromInjector
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from .failures import TrainingError
from .sections import Optimizer, Schedule

OPTIMIZERS = {
    name.lower(): value
    for name, value in vars(torch.optim).items()
    if isinstance(value, type)
    and issubclass(value, torch.optim.Optimizer)
    and value not in (torch.optim.Optimizer, torch.optim.SparseAdam)
}
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)


def parameter_groups(network: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The parameters by what they are: ``weights``, ``norms``, ``biases`` or ``quantizers``.

    A parameter that several modules share counts where it is first met.
    """
    groups: dict[str, list[nn.Parameter]] = {
        name: [] for name in ("weights", "norms", "biases", "quantizers")
    }
    seen: set[nn.Parameter] = set()
    quantizers = {
        inner
        for module in network.modules()
        if isinstance(module, QuantProxyFromInjector)
        for inner in module.modules()
    }
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter in seen:
                continue
            seen.add(parameter)
            if module in quantizers:
                group = "quantizers"
            elif isinstance(module, NORMS):
                group = "norms"
            else:
                group = "biases" if "bias" in name or parameter.ndim < 2 else "weights"
            groups[group].append(parameter)
    return groups


def build_optimizer(network: nn.Module, options: Optimizer) -> torch.optim.Optimizer:
    """The optimizer with a weight decay for each group of parameters.

    Raises:
        TrainingError: for an unknown optimizer or an option that it does not take.
    """
    if options.name not in OPTIMIZERS:
        raise TrainingError(
            f"unknown optimizer {options.name!r}; valid are {', '.join(sorted(OPTIMIZERS))}"
        )
    decay = {
        "weights": options.weight_decay,
        "norms": options.norm_weight_decay,
        "biases": options.bias_weight_decay,
        "quantizers": options.quantizer_weight_decay,
    }
    groups: list[dict[str, Any]] = [
        {"name": name, "params": parameters, "weight_decay": decay[name]}
        for name, parameters in parameter_groups(network).items()
        if parameters
    ]
    if not any(decay.values()):
        # Not every optimizer has one.
        for group in groups:
            del group["weight_decay"]
    try:
        return OPTIMIZERS[options.name](groups, lr=options.lr, **options.options)
    except (RuntimeError, TypeError) as error:
        raise TrainingError(f"optimizer {options.name}: {error}") from error


def lr_factor(schedule: Schedule, epochs: int, epoch: float) -> float:
    """Factor of the learning rate after so many epochs, which need not be whole.

    >>> lr_factor(Schedule(name="step", milestones=[2]), 4, 1.9)
    1.0
    >>> lr_factor(Schedule(name="step", milestones=[2]), 4, 2.0)
    0.1
    """
    if epoch < schedule.warmup_epochs:
        return epoch / schedule.warmup_epochs
    if schedule.name == "cosine":
        done = epoch - schedule.warmup_epochs
        rest = max(epochs - schedule.warmup_epochs, done)
        return 0.5 * (1 + math.cos(math.pi * done / rest)) if rest else 0.0
    if schedule.name == "step":
        if schedule.every is not None:
            steps = int(epoch // schedule.every)
        else:
            steps = sum(epoch >= milestone for milestone in schedule.milestones)
        return schedule.gamma**steps
    return 1.0
