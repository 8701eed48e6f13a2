"""Which PyTorch layer each node of a freshly traced graph comes from."""

from __future__ import annotations

import ast

from onnx import ModelProto, NodeProto
from torch.nn import Module

from .node_attributes import note_of

LAYER = "brevitas_ftprop.layer"
DYNAMO_SCOPES = "pkg.torch.onnx.name_scopes"


def note_layers(graph: ModelProto, model: Module) -> None:
    """Write the name of its layer into each node's metadata, as far as it is known, in place."""
    known = {name for name, _ in model.named_modules()}
    for node in graph.graph.node:
        name = _layer_name(node, known)
        if name:
            node.metadata_props.add(key=LAYER, value=name)


def _layer_name(node: NodeProto, known: set[str]) -> str:
    """The innermost module named by an exporter's scopes.

    TorchScript names nodes ``/layer1/layer1.0/conv1/Conv``, where a part that repeats the one
    before it counts once; dynamo lists the scopes of a node in its notes.
    """
    scopes = note_of(node, DYNAMO_SCOPES)
    if scopes is not None:
        return next((name for name in reversed(ast.literal_eval(scopes)) if name in known), "")
    found, last = [], ""
    for part in node.name.split("/")[1:-1]:
        if last and part.startswith(f"{last}."):
            found.pop()
        found.append(part)
        last = part
    while found and ".".join(found) not in known:
        found.pop()
    return ".".join(found)
