"""Nodes of a ``torch.fx`` graph: what they call, and where in the model that stands."""

from __future__ import annotations

import operator
import re
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_", "__add__"}
ADAPTIVE_AVERAGES = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
ADAPTIVE_AVERAGE_CALLS = (functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d)


def module_of(graph_model: nn.Module, node: fx.Node) -> nn.Module | None:
    """The module that a node calls, None where it calls something else."""
    return graph_model.get_submodule(str(node.target)) if node.op == "call_module" else None


def calls_of(node: fx.Node) -> list[fx.Node]:
    """All calls of the module that a node calls."""
    return list(node.graph.find_nodes(op="call_module", target=str(node.target)))


def shape_of(node: fx.Node) -> torch.Size:
    """The shape of what a node gives."""
    return node.meta["tensor_meta"].shape


def is_computed(node: fx.Node) -> bool:
    """Whether a node gives a tensor that depends on the input."""
    return node.op != "get_attr" and "tensor_meta" in node.meta


def place_of(node: fx.Node) -> str:
    """A name for a call that a user finds in the model: the module's, or its owner's and its own.

    >>> class Model(nn.Module):
    ...     def forward(self, x):
    ...         return x + x
    >>> [place_of(node) for node in fx.symbolic_trace(nn.Sequential(Model())).graph.nodes]
    ['input_1', '0.add', 'output']
    """
    return str(node.target) if node.op == "call_module" else f"{owner_of(node)}{node.name}"


def owner_of(node: fx.Node) -> str:
    """Dotted prefix of the module whose forward makes a call, empty for the model's own."""
    stack: dict[str, Any] = node.meta.get("nn_module_stack") or {}
    owners = [path for path in stack if path and path != node.target]
    # A second call of a module is numbered there.
    return re.sub(r"@\d+", "", f"{owners[-1]}.") if owners else ""


def free_name(graph_model: nn.Module, name: str) -> str:
    """The name, or with a number behind it where something of the model has it."""
    of_model = (graph_model.named_modules(), graph_model.named_parameters())
    taken = {key for entries in (*of_model, graph_model.named_buffers()) for key, _ in entries}
    candidates = (name, *(f"{name}_{count}" for count in range(1, len(taken) + 2)))
    return next(candidate for candidate in candidates if candidate not in taken)
