"""Run an exported file as it is, and look at its quantizers."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import ModelProto
from torch import Tensor

from ..tags import Site
from .exposed_tensors import expose, exposed_results, exposed_sources, values_of
from .runners import OrtRunner, QonnxRunner


class FreeRun:
    """The file as it is at an optimization level; its quantizers are looked at in a second run.

    Args:
        graph: the exported graph, with one output.
        activations: the quantizers to look at.
        runner: what runs it.
        level: an optimization level of the runner.
    """

    def __init__(
        self,
        graph: ModelProto,
        activations: Sequence[Site],
        *,
        runner: type[OrtRunner] | type[QonnxRunner],
        level: str,
    ) -> None:
        self._output = graph.graph.output[0].name
        self._run = runner(graph, level=level)
        # Made after the optimizations, so that looking does not change what is looked at.
        optimized = runner.optimized(graph, level=level)
        wanted = [exposed_results(graph, activations), exposed_sources(activations)]
        exposed, (self._results, self._sources) = expose(optimized, *wanted)
        self._exposed = runner(exposed)

    def __call__(
        self, inputs: dict[str, Tensor]
    ) -> tuple[Tensor, dict[Site, Tensor], dict[Site, Tensor]]:
        """The output, what each quantizer gave, and what it read where the graph still has it."""
        output = self._run.run(inputs)[self._output]
        values = self._exposed.run(inputs)
        return output, values_of(self._results, values), values_of(self._sources, values)
