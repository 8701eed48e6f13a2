"""Where quantizers go in a float graph so that integers reach every layer, sum and average."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import fx, nn
from torch.nn import functional

from .graph_nodes import (
    ADAPTIVE_AVERAGE_CALLS,
    ADAPTIVE_AVERAGES,
    ADDITIONS,
    free_name,
    is_computed,
    module_of,
    owner_of,
    place_of,
)

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)
AVERAGES = (*ADAPTIVE_AVERAGES, nn.AvgPool1d, nn.AvgPool2d)
AVERAGE_CALLS = {
    *ADAPTIVE_AVERAGE_CALLS,
    *(functional.avg_pool1d, functional.avg_pool2d, torch.mean, "mean"),
}
CONCATENATIONS = {torch.cat, torch.concat, torch.concatenate}
MOVES = (
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Flatten, nn.Identity),
    *(nn.MaxPool1d, nn.MaxPool2d),
)
MOVE_CALLS = {
    *(functional.max_pool1d, functional.max_pool2d, torch.max_pool1d, torch.max_pool2d),
    *(torch.flatten, torch.permute, torch.reshape, torch.squeeze, torch.transpose, torch.unsqueeze),
    *("contiguous", "flatten", "permute", "reshape", "squeeze", "transpose", "unsqueeze", "view"),
}

Edge = tuple[fx.Node, fx.Node]


@dataclass(frozen=True)
class Slot:
    """A place of the graph that a quantizer takes.

    Attributes:
        name: of the module that it replaces.
        kind: ``"activation"`` (a ReLU or clip), ``"signed"`` or ``"unsigned"`` (inserted), or
            ``"layer"`` (weights).
        why: what it is for.
        is_outer: whether it belongs to the first or last layer.
        is_last: whether no layer stands behind it.
    """

    name: str
    kind: Literal["activation", "signed", "unsigned", "layer"]
    why: str
    is_outer: bool = False
    is_last: bool = False


def place_quantizers(graph_model: fx.GraphModule, *, output: bool = False) -> list[Slot]:
    """Insert an identity wherever a quantizer is needed, and name all places of quantizers.

    - Every ReLU and clip is one.
    - What a layer or an average reads has to be integers: where neither a ReLU nor another
      quantizer gives them (an image, a batch norm's result, a sum), an inserted one does.
    - What a sum or a concatenation reads passes one shared quantizer, so that it has one scale.

    Args:
        graph_model: as ``float_graph`` gives it; it computes the same afterwards.
        output: whether what the network gives passes a quantizer too.

    Returns:
        The places, in the order of the graph.
    """
    graph = _Reader(graph_model)
    demands: dict[fx.Node, set[fx.Node]] = defaultdict(set)
    for node in graph_model.graph.nodes:
        if graph.is_layer(node) or graph.is_average(node):
            source, reader = graph.source(node, through_averages=True)
            if not graph.gives_integers(source):
                demands[source].add(reader)
    if output:
        source, reader = graph.source(list(graph_model.graph.nodes)[-1], through_averages=True)
        if not graph.gives_integers(source):
            demands[source].add(reader)
    inserted: dict[str, Slot] = {}
    for joins in _groups(graph):
        slot = _share(graph, joins, demands)
        inserted[slot.name] = slot
    for source, readers in demands.items():
        if readers:
            slot = _quantize_source(graph, source, readers)
            inserted[slot.name] = slot
    graph_model.graph.lint()
    graph_model.recompile()
    return list(_slots(graph, inserted))


class _Reader:
    """What the nodes of a graph are, and what stands before and behind them."""

    def __init__(self, graph_model: fx.GraphModule) -> None:
        self.model = graph_model
        nodes = list(graph_model.graph.nodes)
        self.has_layer_before = self._reach(nodes, lambda node: node.all_input_nodes)
        self.has_layer_behind = self._reach(nodes[::-1], lambda node: node.users)

    def _reach(self, nodes: list[fx.Node], neighbours) -> set[fx.Node]:
        reached: set[fx.Node] = set()
        for node in nodes:
            if any(self.is_layer(other) or other in reached for other in neighbours(node)):
                reached.add(node)
        return reached

    def is_layer(self, node: fx.Node) -> bool:
        return type(module_of(self.model, node)) in LAYERS

    def is_average(self, node: fx.Node) -> bool:
        is_call = node.op != "call_module" and node.target in AVERAGE_CALLS
        return is_call or isinstance(module_of(self.model, node), AVERAGES)

    def is_activation(self, node: fx.Node) -> bool:
        return isinstance(module_of(self.model, node), nn.ReLU | nn.Hardtanh)

    def is_concatenation(self, node: fx.Node) -> bool:
        return node.op == "call_function" and node.target in CONCATENATIONS

    def operands(self, node: fx.Node) -> list[fx.Node]:
        """What a sum or concatenation of several tensors reads, nothing for other nodes."""
        is_sum = node.op == "call_function" and node.target in ADDITIONS
        if not (is_sum or self.is_concatenation(node)):
            return []
        tensors = [other for other in node.all_input_nodes if is_computed(other)]
        return tensors if len(tensors) > 1 or self.is_concatenation(node) else []

    def gives_integers(self, node: fx.Node) -> bool:
        return self.is_activation(node) or self.is_concatenation(node)

    def is_unsigned(self, node: fx.Node) -> bool:
        module = module_of(self.model, node)
        return isinstance(module, nn.ReLU) or getattr(module, "min_val", -1.0) >= 0

    def source(
        self, reader: fx.Node, start: fx.Node | None = None, *, through_averages: bool = False
    ) -> Edge:
        """The node whose values a reader gets, pools and moves between apart, and who reads it."""
        node = start or reader.all_input_nodes[0]
        while self._is_passed(node, through_averages):
            node, reader = node.all_input_nodes[0], node
        return node, reader

    def _is_passed(self, node: fx.Node, through_averages: bool) -> bool:
        if self.is_average(node):
            return through_averages
        is_call = node.op != "call_module" and node.target in MOVE_CALLS
        return is_call or isinstance(module_of(self.model, node), MOVES)


def _groups(graph: _Reader) -> Iterator[list[fx.Node]]:
    """Joins that have to share a quantizer, since they read a value that nothing else quantizes."""
    groups: list[tuple[list[fx.Node], set[fx.Node]]] = []
    for node in graph.model.graph.nodes:
        operands = graph.operands(node)
        if not operands:
            continue
        sources = {graph.source(node, operand)[0] for operand in operands}
        sources = {source for source in sources if not graph.gives_integers(source)}
        joins, rest = [node], []
        for group in groups:
            if group[1] & sources:
                joins, sources = group[0] + joins, group[1] | sources
            else:
                rest.append(group)
        groups = [*rest, (joins, sources)]
    return (joins for joins, _ in groups)


def _share(graph: _Reader, joins: list[fx.Node], demands: dict[fx.Node, set[fx.Node]]) -> Slot:
    """Send the operands of joins through one quantizer."""
    edges: dict[fx.Node, set[fx.Node]] = defaultdict(set)
    is_unsigned = True
    for join in joins:
        for operand in graph.operands(join):
            source, reader = graph.source(join, operand)
            is_unsigned &= graph.is_unsigned(source)
            if graph.gives_integers(source):
                source, reader = operand, join
            edges[source].add(reader)
    what = "concatenated" if graph.is_concatenation(joins[0]) else "summand"
    name = free_name(graph.model, f"{owner_of(joins[0])}{what}")
    for source, readers in edges.items():
        readers |= demands.pop(source, set())
        _insert(graph, name, source, readers)
    operands = len({operand for join in joins for operand in graph.operands(join)})
    return Slot(
        name,
        "unsigned" if is_unsigned else "signed",
        f"one scale for {operands} {what} tensors",
    )


def _quantize_source(graph: _Reader, source: fx.Node, readers: set[fx.Node]) -> Slot:
    name = free_name(graph.model, f"{place_of(source)}_quant")
    _insert(graph, name, source, readers)
    what = "the input" if source.op == "placeholder" else f"what {place_of(source)} gives"
    return Slot(name, "signed", f"integers of {what}")


def _insert(graph: _Reader, name: str, source: fx.Node, readers: set[fx.Node]) -> None:
    graph.model.add_submodule(name, nn.Identity())
    with graph.model.graph.inserting_after(source):
        node = graph.model.graph.call_module(name, (source,))
    node.meta["tensor_meta"] = source.meta["tensor_meta"]
    for reader in readers:
        reader.replace_input_with(source, node)


def _slots(graph: _Reader, inserted: dict[str, Slot]) -> Iterator[Slot]:
    graph = _Reader(graph.model)
    found: dict[str, Slot] = {}
    for node in graph.model.graph.nodes:
        is_last = node not in graph.has_layer_behind
        is_outer = is_last or node not in graph.has_layer_before
        name = str(node.target)
        if name in inserted and node.op == "call_module":
            slot = inserted[name]
            kind, why = slot.kind, slot.why
        elif graph.is_activation(node):
            kind = "activation" if graph.is_unsigned(node) else "signed"
            module = module_of(graph.model, node)
            bounds = ", whose bounds are its range's" if isinstance(module, nn.Hardtanh) else ""
            why = f"in place of {type(module).__name__}{bounds}"
        elif graph.is_layer(node):
            kind, why = "layer", "weights"
        else:
            continue
        earlier = found.get(name)
        if earlier is not None:
            is_outer, is_last = is_outer | earlier.is_outer, is_last | earlier.is_last
        found[name] = Slot(name, kind, why, is_outer, is_last)
    yield from found.values()
