"""What the requirements look at: a model's traced graph and its quantizers, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from torch import Tensor
from torch.nn import Module

from ..accelerator_io import AcceleratorIO
from ..entry_levels import entry_path, first_quantizer
from ..height_one import HeightOne
from ..layer_names import LAYER
from ..node_attributes import note_of
from ..qcdq import qcdq_graph
from ..qonnx import qonnx_graph
from ..quantizers import ACTIVATION, WEIGHT, kind_of, quantizer_proxies
from ..tags import QUANTIZER

if TYPE_CHECKING:
    from ..hls4ml.integers import RefusedNodeError


@dataclass(frozen=True)
class GraphView:
    """A model and its graph in the form that a target starts from, indexed once and not changed.

    Attributes:
        model: the PyTorch model.
        exported: the clean graph that would be exported.
        graph: the same, for FINN behind those of its passes that leave quantizers quantizers, for
            hls4ml with signals as images; its nodes in topological order.
        proxies: enabled quantizer proxies by name.
        io: what enters and leaves the accelerator.
        example: an input of the model.
    """

    model: Module
    exported: ModelProto
    graph: ModelWrapper
    proxies: Mapping[str, Any]
    io: AcceleratorIO
    example: Tensor

    @property
    def input(self) -> str:
        """Name of the graph's input."""
        return self.graph.graph.input[0].name

    @property
    def output(self) -> str:
        """Name of the graph's output."""
        return self.graph.graph.output[0].name

    @cached_property
    def nodes(self) -> list[NodeProto]:
        """The nodes that depend on the input, in graph order."""
        return [node for node in self.graph.graph.node if self.is_computed(node.output[0])]

    def of_kind(self, *operators: str) -> Iterator[NodeProto]:
        """The nodes of some operators."""
        return (node for node in self.nodes if node.op_type in operators)

    def producer(self, name: str) -> NodeProto | None:
        """The node that gives a tensor; None for inputs and initializers."""
        return self._producers.get(name)

    def consumers(self, name: str) -> list[NodeProto]:
        """The nodes that read a tensor, each as often as it does."""
        return self._consumers.get(name, [])

    def shape(self, name: str) -> list[int]:
        """Shape of a tensor; empty where it is unknown."""
        return self._shapes.get(name, [])

    def constant(self, name: str) -> np.ndarray | None:
        """Value of an initializer."""
        tensor = self._initializers.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def is_computed(self, name: str) -> bool:
        """Whether a tensor depends on the graph's input."""
        return name in self._computed

    def computed_inputs(self, node: NodeProto) -> list[str]:
        """Those of a node's inputs that depend on the graph's input."""
        return [name for name in node.input if self.is_computed(name)]

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

    @cached_property
    def absorbed(self) -> list[NodeProto]:
        """Nodes that become part of the first thresholds on the integers that enter."""
        path = entry_path(self.graph) if self.io.takes_integers else []
        return path[:-1] if first_quantizer(path) is not None else []

    @cached_property
    def refused_nodes(self) -> Sequence[RefusedNodeError]:
        """The nodes that have no exact form for hls4ml."""
        # hls4ml's flow asks this room.
        from ..hls4ml.integer_sums import refused_nodes

        return refused_nodes(self.graph)

    @cached_property
    def _producers(self) -> dict[str, NodeProto]:
        return {name: node for node in self.graph.graph.node for name in node.output}

    @cached_property
    def _consumers(self) -> dict[str, list[NodeProto]]:
        found: dict[str, list[NodeProto]] = {}
        for node in self.graph.graph.node:
            for name in node.input:
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def _computed(self) -> set[str]:
        found = {self.input}
        for node in self.graph.graph.node:
            if not found.isdisjoint(node.input):
                found.update(filter(None, node.output))
        return found

    @cached_property
    def _initializers(self) -> dict[str, TensorProto]:
        return {tensor.name: tensor for tensor in self.graph.graph.initializer}

    @cached_property
    def _shapes(self) -> dict[str, list[int]]:
        graph = self.graph.graph
        found = {name: list(tensor.dims) for name, tensor in self._initializers.items()}
        for entry in (*graph.input, *graph.output, *graph.value_info):
            found[entry.name] = [size.dim_value for size in entry.type.tensor_type.shape.dim]
        return found


def trace_view(
    model: Module, example: Tensor, target: str, *, dynamo: bool, io: AcceleratorIO
) -> GraphView:
    """Trace a model once, as the export to a target does.

    Raises:
        ExportError: if the exporter fails; names the layer where that is known.
    """
    if target == "qcdq":
        graph = qcdq_graph(model, example, dynamo=dynamo)
    else:
        graph = qonnx_graph(model, example[:1], dynamo=dynamo, notes=(LAYER,))
    seen = ModelWrapper(graph)
    if target == "hls4ml":
        seen = seen.transform(HeightOne())
    if target == "finn":
        # FINN's flow asks this room.
        from ..finn.passes import plain

        seen = plain(seen)
    return GraphView(model, graph, seen, quantizer_proxies(model), io, example[:1])
