"""How far float32 rounding may take each layer, told by the model and not by the file under test.

A file could excuse itself: huge constants that cancel out make a huge rounding bound. So the bound
is computed on a graph that is traced afresh from the model.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import ModelProto
from torch import Tensor
from torch.nn import Module

from ...levels import LevelFunction
from ..cleaning import clean_graph
from ..errors import ExportError
from ..formats import QCDQ, QONNX
from ..tags import sites_of
from ..tracing import trace
from .bounds import evaluate, unbounded_operators
from .capture import Captured
from .cut_graphs import FORCED_OUTPUT, forced, forced_name
from .differences import integers
from .rounding import Bounded

# TorchScript first: it is quicker. Formats differ in the quantizers that they refuse.
TRACERS = [(format, dynamo) for dynamo in (False, True) for format in (QONNX, QCDQ)]


class Reference:
    """Pre-activations in float64 with their float32 bounds, layer by layer.

    Args:
        model: in evaluation mode.
        example: an input of the batch size to come.
        activations: the names of the model's activation quantizers.
    """

    def __init__(self, model: Module, example: Tensor, activations: set[str]) -> None:
        graph = _traced(model, example)
        self.unbounded: list[str] = []
        if graph is None:
            self.unbounded = ["a model that cannot be traced"]
            return
        sites = sites_of(graph)
        self._activations = [site for site in sites if site.name in activations]
        self._weights = [site for site in sites if site.name not in activations]
        self._graph = forced(graph, self._activations, dict.fromkeys(map(forced_name, sites), ()))
        self._input = graph.graph.input[0].name

    def bounds(
        self,
        chunk: Tensor,
        captured: Captured,
        functions: Mapping[str, LevelFunction] | None = None,
    ) -> tuple[Mapping[tuple[str, int], Bounded], Bounded | None]:
        """What each activation quantizer reads, by name and call, and the output; each if bounded.

        The output is given a tolerance behind operators without a bound, if they can be evaluated.

        Args:
            chunk: the model's input.
            captured: what its quantizers gave; every layer is fed with it.
            functions: of the quantizers whose scales may have moved behind other operators, by
                name. ``q·s`` is then rounded elsewhere than in PyTorch, and this is part of the
                bounds.
        """
        if not hasattr(self, "_graph"):
            return {}, None
        known: dict[str, Tensor | Bounded] = {self._input: chunk}
        for site in (*self._activations, *self._weights):
            calls = captured.calls[site.name]
            result = calls[min(site.call, len(calls) - 1)].result
            if functions is not None and site.name in functions:
                result = _with_its_rounding(result, functions[site.name])
            known[forced_name(site) if site in self._activations else site.result] = result
        bounded = evaluate(self._graph, known)
        self.unbounded = unbounded_operators(self._graph, bounded)
        behind = {site.result: forced_name(site) for site in self._activations}
        found = {
            (site.name, site.call): bounded.get(behind.get(str(site.source), str(site.source)))
            for site in self._activations
        }
        output = bounded.get(FORCED_OUTPUT)
        if output is None:
            output = evaluate(self._graph, known, assume=True).get(FORCED_OUTPUT)
        return {key: z for key, z in found.items() if z is not None}, output


def _with_its_rounding(result: Tensor, function: LevelFunction) -> Bounded:
    """A quantizer's float32 values, with what rounding ``q·s`` to them has changed."""
    levels = integers(function, result).double()
    unrounded = (levels - function.zero_point.double()) * function.scale.double()
    return Bounded(result.double(), (unrounded - result.double()).abs())


def _traced(model: Module, example: Tensor) -> ModelProto | None:
    for format, dynamo in TRACERS:
        try:
            # What an exporter folds it rounds, and no bound would know of it.
            graph = trace(format, model, example, dynamo=dynamo, fold=False)
        except ExportError:
            continue
        return clean_graph(graph)
    return None
