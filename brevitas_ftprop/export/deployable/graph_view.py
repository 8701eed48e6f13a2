"""What the rules look at: a model's traced graph and its quantizers, side by side."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from brevitas.export.onnx.qonnx.manager import QONNXDynamoManager, QONNXManager
from onnx import ModelProto, NodeProto
from torch import Tensor
from torch.nn import Module

from ..cleaning import clean_graph, clean_qonnx
from ..quantizers import ACTIVATION, WEIGHT, kind_of, quantizer_proxies
from ..tags import QUANTIZER
from ..tracing import trace

__all__ = ["GraphView", "trace_view"]

OPSET = 20
LAYER = "brevitas_ftprop.layer"
DYNAMO_SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True)
class GraphView:
    """A model and its clean QONNX graph.

    Attributes:
        model: the PyTorch model.
        graph: a qonnx ``ModelWrapper``.
        proxies: enabled quantizer proxies by name.
        example: what the graph was traced with.
        images, result: the accelerator's edges, as ``export_finn`` takes them.
    """

    model: Module
    graph: Any
    proxies: Mapping[str, Any]
    example: Tensor
    images: str = "float"
    result: str = "logits"

    @property
    def nodes(self) -> list[NodeProto]:
        """The nodes that depend on the input, in graph order."""
        return [node for node in self.graph.graph.node if self.is_computed(node.output[0])]

    def of_kind(self, *operators: str) -> Iterator[NodeProto]:
        """The nodes of some operators."""
        return (node for node in self.nodes if node.op_type in operators)

    def producer(self, name: str) -> NodeProto | None:
        """The node that gives a tensor; None for inputs and initializers."""
        return self.graph.find_producer(name)

    def consumers(self, name: str) -> list[NodeProto]:
        """The nodes that read a tensor."""
        return self.graph.find_consumers(name) or []

    def shape(self, name: str) -> list[int]:
        """Shape of a tensor; empty where it is unknown."""
        return self.graph.get_tensor_shape(name) or []

    def constant(self, name: str) -> np.ndarray | None:
        """Value of an initializer."""
        return self.graph.get_initializer(name)

    def is_output(self, name: str) -> bool:
        """Whether a tensor is the graph's output."""
        return name == self.graph.graph.output[0].name

    def is_computed(self, name: str) -> bool:
        """Whether a tensor depends on the graph's input."""
        if name == self.graph.graph.input[0].name:
            return True
        node = self.producer(name)
        return node is not None and any(self.is_computed(source) for source in node.input if source)

    def computed_inputs(self, node: NodeProto) -> list[str]:
        """Those of a node's inputs that depend on the graph's input."""
        return [name for name in node.input if name and self.is_computed(name)]

    def quantizer(self, node: NodeProto | None) -> str | None:
        """Name of the quantizer that a node belongs to."""
        return None if node is None else _note(node, QUANTIZER)

    def weight_quantizer(self, node: NodeProto) -> str | None:
        """Name of the quantizer of the second input of a convolution or matrix product."""
        name = self.quantizer(self.producer(node.input[1])) if len(node.input) > 1 else None
        return name if name is not None and kind_of(self.proxies[name]) == WEIGHT else None

    def activation_quantizer(self, name: str) -> str | None:
        """Name of the quantizer that gives a tensor."""
        quantizer = self.quantizer(self.producer(name))
        if quantizer is None or kind_of(self.proxies[quantizer]) != ACTIVATION:
            return None
        return quantizer

    def layer(self, node: NodeProto) -> str:
        """Name of the PyTorch layer that a node comes from, as far as it is known."""
        name = self.quantizer(node) or self.weight_quantizer(node)
        if name is not None:
            return name.removesuffix(".weight_quant")
        return _note(node, LAYER) or node.name or "model"

    def activations(self) -> Iterator[tuple[str, Any]]:
        """Enabled activation quantizers."""
        return ((n, p) for n, p in self.proxies.items() if kind_of(p) == ACTIVATION)

    def weights(self) -> Iterator[tuple[str, Any]]:
        """Enabled weight quantizers."""
        return ((n, p) for n, p in self.proxies.items() if kind_of(p) == WEIGHT)


def trace_view(model: Module, example: Tensor, *, dynamo: bool) -> GraphView:
    """Trace a model once, as ``export_qonnx`` does.

    Raises:
        ExportError: if the exporter fails; names the layer where that is known.
    """
    from qonnx.core.modelwrapper import ModelWrapper

    manager = QONNXDynamoManager if dynamo else QONNXManager
    graph = trace(manager, model, example, dynamo=dynamo, opset_version=OPSET)
    known = {name for name, _ in model.named_modules()}
    names = {node.output[0]: _layer_name(node, known) for node in graph.graph.node if node.output}
    clean_graph(graph)
    _note_layers(graph, names)
    return GraphView(
        model, ModelWrapper(clean_qonnx(graph)), quantizer_proxies(model), example.detach()
    )


def _note_layers(graph: ModelProto, names: dict[str, str]) -> None:
    for node in graph.graph.node:
        name = names.get(node.output[0])
        if name:
            node.metadata_props.add(key=LAYER, value=name)


def _layer_name(node: NodeProto, known: set[str]) -> str:
    """The innermost module named by an exporter's scopes.

    TorchScript names nodes ``/layer1/layer1.0/conv1/Conv``, where a part that repeats the one
    before it counts once; dynamo lists the scopes of a node in its notes.
    """
    scopes = _note(node, DYNAMO_SCOPES)
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


def _note(node: NodeProto, key: str) -> str | None:
    return next((entry.value for entry in node.metadata_props if entry.key == key), None)
