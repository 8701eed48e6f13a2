"""Which nodes of an ONNX graph belong to which quantizer, kept in the nodes' metadata."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onnx import ModelProto, NodeProto

from .markers import DOMAIN, END
from .node_attributes import attribute_values, keep, note_of

QUANTIZER = "brevitas_ftprop.quantizer"
CALL = "brevitas_ftprop.call"
# On a quantizer's node: its integers in the model are those that the pool behind it gives.
READ_BEHIND_POOL = "brevitas_ftprop.read_behind_pool"


@dataclass(frozen=True)
class Site:
    """One call of one quantizer in a graph.

    Attributes:
        name: the quantizer proxy's name in the PyTorch model.
        call: 0 for the proxy's first call in a forward pass, 1 for its second, …; calls whose
            result nobody uses are counted, though they are in no file.
        nodes: positions of its nodes in the graph.
        source: the tensor that it quantizes; None for weights.
        result: the tensor that it produces.
    """

    name: str
    call: int
    nodes: tuple[int, ...]
    source: str | None
    result: str


def marked_calls(nodes: Iterable[NodeProto]) -> set[tuple[str, int]]:
    """Name and number of the quantizer calls that end among the nodes of a fresh graph."""
    return {(_quantizer(node), _call(node)) for node in nodes if _is_end(node)}


def tag_nodes(model: ModelProto, names: Iterable[str]) -> None:
    """Turn the markers of a freshly exported graph into node metadata and remove them, in place.

    Args:
        model: the graph.
        names: of the quantizers whose nodes are tagged.
    """
    nodes = list(model.graph.node)
    producers = {output: node for node in nodes for output in node.output}
    tagged = set(names)
    for node in nodes:
        if _is_end(node) and _quantizer(node) in tagged:
            _tag(node, producers)
    _remove_markers(model)


def is_tagged(node: NodeProto) -> bool:
    """Whether a node belongs to a quantizer."""
    return note_of(node, QUANTIZER) is not None


def _tag(end: NodeProto, producers: dict[str, NodeProto]) -> None:
    pending, seen = list(end.input), set()
    while pending:
        node = producers.get(pending.pop())
        if node is None or id(node) in seen or node.domain == DOMAIN:
            continue
        seen.add(id(node))
        pending += node.input
        # An exporter may have merged several calls on the same weight: the first one names them.
        if node.op_type != "Constant" and not is_tagged(node):
            node.metadata_props.add(key=QUANTIZER, value=_quantizer(end))
            node.metadata_props.add(key=CALL, value=str(_call(end)))


def _remove_markers(model: ModelProto) -> None:
    graph = model.graph
    renamed = {n.output[0]: n.input[0] for n in graph.node if n.domain == DOMAIN}
    for name, source in renamed.items():
        while source in renamed:
            source = renamed[source]
        renamed[name] = source
    keep(graph.node, lambda node: node.domain != DOMAIN)
    outputs = {output.name for output in graph.output}
    # A graph output keeps its name: the marked node takes it over.
    taken_over = {renamed[name]: name for name in outputs if name in renamed}
    for node in graph.node:
        for index, name in enumerate(node.input):
            source = renamed.get(name, name)
            node.input[index] = taken_over.get(source, source)
        for index, name in enumerate(node.output):
            node.output[index] = taken_over.get(name, name)
    keep(graph.value_info, lambda info: info.name not in renamed)
    keep(model.opset_import, lambda entry: entry.domain != DOMAIN)


def sites_of(model: ModelProto) -> list[Site]:
    """The tagged quantizer calls of a graph, in graph order.

    Raises:
        ValueError: if a tagged group of nodes does not have one result.
    """
    nodes = model.graph.node
    groups: dict[tuple[str, int], list[int]] = {}
    for index, node in enumerate(nodes):
        name = note_of(node, QUANTIZER)
        if name is not None:
            groups.setdefault((name, int(note_of(node, CALL) or 0)), []).append(index)
    constant = _constants(model)
    sites = []
    for (name, call), members in groups.items():
        inside = set(members)
        produced = {output for index in members for output in nodes[index].output}
        used_outside = {output.name for output in model.graph.output}
        for index, node in enumerate(nodes):
            if index not in inside:
                used_outside.update(node.input)
        sources = {
            source
            for index in members
            for source in nodes[index].input
            if source and source not in produced and source not in constant
        }
        results = sorted(produced & used_outside)
        if len(results) != 1 or len(sources) > 1:
            raise ValueError(
                f"the nodes of quantizer {name} do not form one step from one input to one output"
            )
        source = sources.pop() if sources else None
        sites.append(Site(name, call, tuple(members), source, results[0]))
    return sites


def _constants(model: ModelProto) -> set[str]:
    constant = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if all(name in constant for name in node.input if name):
            constant.update(node.output)
    return constant


def _is_end(node: NodeProto) -> bool:
    return node.domain == DOMAIN and node.op_type == END


def _quantizer(node: NodeProto) -> str:
    return attribute_values(node)["quantizer"]


def _call(node: NodeProto) -> int:
    return attribute_values(node)["call"]
