"""What Brevitas' quantizers keep outside their state dict: counters, and statistics in progress.

Scales that are collected from the first batches, delayed quantization and scales that start from
the weights count in plain attributes, and leave out of the state dict what they have not finished.
A checkpoint without these would start them anew.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

COUNTERS = ("counter", "init_done", "quant_delay_steps")
UNFINISHED = ("buffer", "value")

State = dict[str, dict[str, Any]]


def quantizer_counters(network: nn.Module) -> State:
    """The counters of each module that has some."""
    states: State = {}
    for name, module in network.named_modules():
        counters = {key: vars(module)[key] for key in COUNTERS if key in vars(module)}
        if counters:
            states[name] = counters
    return states


def quantizer_state(network: nn.Module) -> State:
    """The counters of each module that has some, with the tensors that they are about."""
    states = quantizer_counters(network)
    for name, state in states.items():
        module = network.get_submodule(name)
        tensors = module._parameters | module._buffers
        state |= {key: tensors[key].detach().clone() for key in UNFINISHED if key in tensors}
    return states


@torch.no_grad()
def set_quantizer_state(network: nn.Module, states: State) -> None:
    """The inverse of :func:`quantizer_state` and of :func:`quantizer_counters`."""
    for name, state in states.items():
        module = network.get_submodule(name)
        for key, value in state.items():
            if key in COUNTERS:
                setattr(module, key, value)
            else:
                getattr(module, key).copy_(value)


def is_collecting(network: nn.Module) -> bool:
    """Whether some scale or zero-point still comes from statistics instead of being learned."""
    return any(
        module.counter <= module.collect_stats_steps
        for module in network.modules()
        if hasattr(module, "collect_stats_steps")
    )


def carry_quantizer_state(module: nn.Module, attribute: str) -> None:
    """Have a module's state dict hold the quantizer state of its child of that name.

    The module's class must store it as its extra state; see ``Classifier``.
    """

    def before(module: nn.Module, state_dict: dict, prefix: str, *_: Any) -> None:
        extra = state_dict.get(f"{prefix}_extra_state", {})
        for name, state in extra.items():
            # Brevitas leaves out a value that has not been collected, and wants it back.
            if "value" in state:
                key = f"{prefix}{attribute}.{name}.value" if name else f"{prefix}{attribute}.value"
                state_dict.setdefault(key, state["value"])

    def after(module: nn.Module, _: Any) -> None:
        # Loading a value ended its collection.
        set_quantizer_state(getattr(module, attribute), module.loaded_extra_state)

    module.register_load_state_dict_pre_hook(before)
    module.register_load_state_dict_post_hook(after)
