"""ReLUs, clips and dropouts, however they are called, become modules of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from .graph_nodes import free_name, module_of, owner_of, place_of

# By the names of modules, functions and methods, without underscores.
CURVED = {
    *("celu", "elu", "gelu", "glu", "hardshrink", "hardsigmoid", "hardswish", "leakyrelu"),
    *("logsigmoid", "mish", "prelu", "rrelu", "selu", "sigmoid", "silu", "softplus", "softshrink"),
    *("softsign", "tanh", "tanhshrink"),
}


def refuse_curved(graph_model: fx.GraphModule) -> None:
    """Raise for activations that no thresholds compute.

    Raises:
        ValueError: names the first.
    """
    for node in graph_model.graph.nodes:
        module = module_of(graph_model, node)
        called = node.target if module is None else type(module)
        name = str(getattr(called, "__name__", called))
        if name.lower().replace("_", "") in CURVED:
            raise ValueError(
                f"{place_of(node)}: {name} is no staircase that FINN's thresholds compute: replace "
                "it by nn.ReLU or nn.ReLU6, and train on"
            )


def give_modules(graph_model: fx.GraphModule) -> None:
    """Let each call of a ReLU, clip or dropout be one of a module that nothing else calls.

    Raises:
        ValueError: for clamps that no quantizer computes.
    """
    called: set[str] = set()
    for node in graph_model.graph.nodes:
        module = module_of(graph_model, node)
        made = _made(module, node)
        if made is None:
            continue
        name = place_of(node) if module is not None else f"{owner_of(node)}{node.name}"
        if module is None or name in called:
            name = free_name(graph_model, name)
        called.add(name)
        graph_model.add_submodule(name, made.eval())
        node.op, node.target = "call_module", name
        node.args, node.kwargs = (node.all_input_nodes[0],), {}


def _made(module: nn.Module | None, node: fx.Node) -> nn.Module | None:
    if isinstance(module, nn.ReLU | nn.ReLU6):
        return type(module)()
    if isinstance(module, nn.Hardtanh):
        return _clip(module.min_val, module.max_val, node)
    make = None if module is not None else CALLS.get(node.target)
    given = {key: value for key, value in node.kwargs.items() if key != "input"}
    return None if make is None else make(node, *node.args[1:], **given)


def _clip(low: Any, high: Any, node: fx.Node) -> nn.Module:
    if low == 0 and high is None:
        return nn.ReLU()
    if not all(isinstance(bound, int | float) for bound in (low, high)):
        raise ValueError(
            f"{place_of(node)}: a clamp to [{low}, {high}] is no activation that a quantizer "
            "computes: use nn.ReLU, nn.ReLU6 or nn.Hardtanh"
        )
    return nn.Hardtanh(float(low), float(high))


def _relu(node: fx.Node, inplace: bool = False) -> nn.Module:
    return nn.ReLU()


def _relu6(node: fx.Node, inplace: bool = False) -> nn.Module:
    return nn.ReLU6()


def _hardtanh(
    node: fx.Node, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> nn.Module:
    return _clip(min_val, max_val, node)


def _clamp(node: fx.Node, min: Any = None, max: Any = None) -> nn.Module:
    return _clip(min, max, node)


def _dropout(
    node: fx.Node, p: float = 0.5, training: bool = True, inplace: bool = False
) -> nn.Module:
    # fx has seen the training flag of evaluation mode only.
    return nn.Dropout(p)


CALLS: dict[Any, Callable[..., nn.Module]] = {
    functional.relu: _relu,
    functional.relu_: _relu,
    torch.relu: _relu,
    torch.relu_: _relu,
    "relu": _relu,
    "relu_": _relu,
    functional.relu6: _relu6,
    functional.hardtanh: _hardtanh,
    functional.hardtanh_: _hardtanh,
    torch.clamp: _clamp,
    torch.clip: _clamp,
    "clamp": _clamp,
    "clamp_": _clamp,
    "clip": _clamp,
    "clip_": _clamp,
    functional.dropout: _dropout,
}
