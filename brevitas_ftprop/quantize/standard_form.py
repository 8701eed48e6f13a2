"""Other forms of the same function: plain sums, no idle pools, biases in batch norms."""

from __future__ import annotations

import operator

import torch
from torch import fx, nn

from .graph_nodes import (
    ADAPTIVE_AVERAGE_CALLS,
    ADAPTIVE_AVERAGES,
    ADDITIONS,
    calls_of,
    module_of,
    place_of,
    shape_of,
)


def write_plain_sums(graph_model: fx.GraphModule) -> None:
    """Let ``torch.add``, ``+=`` and their like be ``+``.

    Raises:
        ValueError: for ``alpha``, which gives operands different scales.
    """
    for node in graph_model.graph.nodes:
        if node.op == "call_module" or node.target not in ADDITIONS:
            continue
        if node.kwargs.get("alpha", 1) != 1:
            raise ValueError(
                f"{place_of(node)}: a sum with alpha={node.kwargs['alpha']} has operands of "
                "different scales: multiply in the layer before"
            )
        operands = (*node.args, *(node.kwargs[key] for key in ("other",) if key in node.kwargs))
        node.op, node.target = "call_function", operator.add
        node.args, node.kwargs = operands, {}


def drop_idle_pools(graph_model: fx.GraphModule) -> None:
    """Leave out adaptive average pools of maps that have their size already.

    Raises:
        ValueError: for those whose windows would have several sizes.
    """
    for node in list(graph_model.graph.nodes):
        module = module_of(graph_model, node)
        if not (isinstance(module, ADAPTIVE_AVERAGES) or node.target in ADAPTIVE_AVERAGE_CALLS):
            continue
        source = node.all_input_nodes[0]
        before, after = shape_of(source)[2:], shape_of(node)[2:]
        if before == after:
            node.replace_all_uses_with(source)
            graph_model.graph.erase_node(node)
        elif any(size % pooled for size, pooled in zip(before, after, strict=True)):
            wanted = "×".join(map(str, after))
            raise ValueError(
                f"{place_of(node)}: maps of {'×'.join(map(str, before))} are averaged to {wanted}, "
                f"which windows of one size do not give: take images whose maps are {wanted} "
                "there, or average to 1×1"
            )


def move_biases(graph_model: fx.GraphModule) -> None:
    """Let a bias in front of a batch norm be part of the norm's running mean."""
    for node in graph_model.graph.nodes:
        norm = module_of(graph_model, node)
        if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            continue
        source = node.all_input_nodes[0]
        layer = module_of(graph_model, source)
        is_layer = isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear)
        if not is_layer or layer.bias is None or len(source.users) > 1:
            continue
        if len(calls_of(source)) > 1 or len(calls_of(node)) > 1:
            continue
        if norm.running_mean is not None:
            with torch.no_grad():
                norm.running_mean -= layer.bias
        layer.register_parameter("bias", None)
