"""What the requirements look at: a model's traced graph and its quantizers, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto
from torch import Tensor
from torch.nn import Module

from ..layer_names import LAYER
from ..node_attributes import note_of
from ..qcdq import qcdq_graph
from ..qonnx import qonnx_graph
from ..quantizers import ACTIVATION, WEIGHT, kind_of, quantizer_proxies
from ..tags import QUANTIZER

__all__ = ["GraphView", "trace_view"]


@dataclass(frozen=True)
class GraphView:
    """A model and the clean graph that would be exported.

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
        return None if node is None else note_of(node, QUANTIZER)

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
        return note_of(node, LAYER) or node.name or "model"

    def activations(self) -> Iterator[tuple[str, Any]]:
        """Enabled activation quantizers."""
        return ((n, p) for n, p in self.proxies.items() if kind_of(p) == ACTIVATION)

    def weights(self) -> Iterator[tuple[str, Any]]:
        """Enabled weight quantizers."""
        return ((n, p) for n, p in self.proxies.items() if kind_of(p) == WEIGHT)


def trace_view(model: Module, example: Tensor, target: str, *, dynamo: bool) -> GraphView:
    """Trace a model once, as the export to a target does.

    Raises:
        ExportError: if the exporter fails; names the layer where that is known.
    """
    from qonnx.core.modelwrapper import ModelWrapper

    if target == "qcdq":
        graph = qcdq_graph(model, example, dynamo=dynamo)
    else:
        graph = qonnx_graph(model, example[:1], dynamo=dynamo, notes=(LAYER,))
    return GraphView(model, ModelWrapper(graph), quantizer_proxies(model), example.detach())
