"""Run an exported file as it is, and look at its quantizers' integers inside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto
from torch import Tensor

from ..node_attributes import keep
from ..tags import Site
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


@dataclass(frozen=True)
class ExposedTensor:
    """A tensor that tells what a quantizer gave, or read.

    Attributes:
        site: the quantizer.
        tensor: what to look at: the integers before a DequantizeLinear, else the result.
        kind: ONNX element type of the tensor.
        scale: of the DequantizeLinear; None for results.
        zero_point: as ``scale``.
        axis: of the channels, where ``scale`` has one for each.
    """

    site: Site
    tensor: str
    kind: int
    scale: Tensor | None = None
    zero_point: Tensor | None = None
    axis: int = 1

    def result(self, values: Tensor) -> Tensor:
        """The quantizer's result behind the exposed values."""
        if self.scale is None or self.zero_point is None:
            return values
        shape = [1] * values.dim()
        shape[self.axis] = -1
        scale, zero_point = (
            parameter.reshape(shape) if parameter.numel() > 1 else parameter.reshape(())
            for parameter in (self.scale, self.zero_point)
        )
        return (values.float() - zero_point) * scale


def exposed_results(model: ModelProto, sites: Sequence[Site]) -> list[ExposedTensor]:
    """What to look at for each quantizer.

    Integers are preferred: ONNX Runtime treats a DequantizeLinear that is a graph output
    differently.
    """
    producers = {output: node for node in model.graph.node for output in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found = []
    for site in sites:
        node = producers[site.result]
        parameters = [constants[name] for name in node.input[1:3] if name in constants]
        if node.op_type != "DequantizeLinear" or len(parameters) < 2:
            found.append(ExposedTensor(site, site.result, TensorProto.FLOAT))
            continue
        scale, zero_point = (onnx.numpy_helper.to_array(parameter) for parameter in parameters)
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        found.append(
            ExposedTensor(
                site,
                node.input[0],
                parameters[1].data_type,
                torch.from_numpy(np.array(scale)).float(),
                torch.from_numpy(np.array(zero_point)).float(),
                axis,
            )
        )
    return found


def exposed_sources(sites: Sequence[Site]) -> list[ExposedTensor]:
    """What each quantizer reads."""
    return [ExposedTensor(s, s.source, TensorProto.FLOAT) for s in sites if s.source is not None]


def expose(
    model: ModelProto, *wanted: Sequence[ExposedTensor]
) -> tuple[ModelProto, list[list[ExposedTensor]]]:
    """A copy of a graph whose exposed tensors are outputs, and the exposures that it still has."""
    present = {output for node in model.graph.node for output in node.output}
    outputs = {output.name for output in model.graph.output}
    copy = ModelProto()
    copy.CopyFrom(model)
    kept = [[exposure for exposure in group if exposure.tensor in present] for group in wanted]
    for exposure in chain.from_iterable(kept):
        if exposure.tensor not in outputs:
            outputs.add(exposure.tensor)
            copy.graph.output.append(
                onnx.helper.make_tensor_value_info(exposure.tensor, exposure.kind, None)
            )
    # QONNX wants a shape told in one place.
    keep(copy.graph.value_info, lambda info: info.name not in outputs)
    return copy, kept


def values_of(kept: Sequence[ExposedTensor], values: Mapping[str, Tensor]) -> dict[Site, Tensor]:
    """What each exposed quantizer gave, or read."""
    return {exposure.site: exposure.result(values[exposure.tensor]) for exposure in kept}
