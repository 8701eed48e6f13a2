"""The first quantizer of a network as a function of the integers that enter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from torch import Tensor
from torch.nn import Module

from ..levels import level_function, tensor_quant_of
from .accelerator_io import AcceleratorIO
from .errors import ExportError
from .node_attributes import is_padded, note_of
from .quantizers import quantizer_proxies
from .state import export_state
from .tags import QUANTIZER

# Operators that compute each value from that value and constants.
POINTWISE = {
    *("Abs", "Add", "BatchNormalization", "Cast", "Ceil", "Clip", "Div", "Dropout", "Elu", "Erf"),
    *("Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Max"),
    *("Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu", "Selu", "Sigmoid", "Sign"),
    *("Softplus", "Softsign", "Sqrt", "Sub", "Tanh"),
}
RESHAPES = ("Flatten", "Reshape", "Unsqueeze")


def entry_path(graph: ModelWrapper) -> list[NodeProto]:
    """What the input of a graph passes one after the other, and the first other node as the last.

    It passes pointwise operators, max pools without padding (which commute with what rises), and
    flattenings before any pool; the last node is the one behind them. Empty where several nodes
    read the input or what became of it.
    """
    path, name, is_pooled = [], graph.graph.input[0].name, False
    while True:
        readers = graph.find_consumers(name)
        if len(readers) != 1:
            return []
        (node,) = readers
        path.append(node)
        is_pool = node.op_type == "MaxPool" and not is_padded(node)
        is_flat = node.op_type in RESHAPES and not is_pooled
        is_pooled |= is_pool
        is_same = node.op_type in POINTWISE and _keeps_shape(graph, name, node)
        is_passed = is_pool or is_flat or is_same
        others = [each for each in node.input if each and each != name]
        is_constant = all(graph.get_initializer(each) is not None for each in others)
        if note_of(node, QUANTIZER) or not is_passed or not is_constant:
            return path
        name = node.output[0]


def _keeps_shape(graph: ModelWrapper, name: str, node: NodeProto) -> bool:
    return graph.get_tensor_shape(name) == graph.get_tensor_shape(node.output[0])


def first_quantizer(path: Sequence[NodeProto]) -> str | None:
    """Name of the quantizer that is the end of an ``entry_path``."""
    return note_of(path[-1], QUANTIZER) if path else None


def with_thresholds(
    io: AcceleratorIO, model: Module, example: Tensor, graph: ModelProto
) -> AcceleratorIO:
    """Input and output with the first quantizer's thresholds, where integers enter and it is first.

    Args:
        io: what enters.
        model: in PyTorch.
        example: an input of the model.
        graph: the model's QONNX graph.

    Raises:
        ExportError: as :func:`entry_thresholds`.
    """
    name = first_quantizer(entry_path(ModelWrapper(graph))) if io.takes_integers else None
    if name is None:
        return io
    proxy = quantizer_proxies(model)[name]
    return replace(io, thresholds=entry_thresholds(model, name, proxy, example, io))


class _ReachedError(Exception):
    """The quantizer has been called; nothing behind it is of interest."""


def entry_thresholds(
    model: Module, quantizer: str, proxy: Any, example: Tensor, io: AcceleratorIO
) -> np.ndarray:
    """The thresholds of a model's first quantizer on the integers that enter.

    PyTorch runs the model up to the quantizer on an image of each integer, with all that stands
    before it. A level's threshold is the least integer that reaches it; one more than the largest
    where none does.

    Args:
        model: in PyTorch.
        quantizer, proxy: the first quantizer.
        example: an input of the model.
        io: what enters.

    Returns:
        float32 (channels or 1, steps); a channel is a feature where the model flattens images.

    Raises:
        ExportError: if the quantizer's integers fall somewhere as the entering ones rise, differ
            with the position in an image, or cannot be computed; names channel and integers.
    """
    values, rows = io.values, []
    with export_state(model):
        model.eval()
        function = level_function(proxy)
        for value in values:
            image = torch.full_like(example[:1], int(value), dtype=torch.int64)
            result = _quantized(model, proxy, io.seen(image), quantizer)
            levels = torch.round(result / function.scale + function.zero_point)
            levels = levels.flatten(2) if levels.dim() > 2 else levels[..., None]
            if bool((levels != levels[..., :1]).any()):
                raise ExportError(
                    f"what {quantizer} makes of the image differs with the position in it"
                )
            rows.append(levels[0, :, 0])
    levels = torch.stack(rows, dim=1)
    falls = (levels.diff() < 0).nonzero()
    if len(falls):
        channel, at = falls[0].tolist()
        before, after = (int(levels[channel, at + step]) for step in (0, 1))
        raise ExportError(
            f"what {quantizer} makes of the image falls where it rises: in channel {channel} it "
            f"gives {before} for {int(values[at])}, but {after} for {int(values[at + 1])}"
        )
    steps = torch.tensor(function.level_values[1:])
    reached = levels[:, None, :] >= steps[None, :, None]
    first = reached.int().argmax(2)
    beyond = torch.cat([values, values[-1:] + 1])
    thresholds = beyond[torch.where(reached.any(2), first, len(values))]
    if bool((thresholds == thresholds[:1]).all()):
        thresholds = thresholds[:1]
    return thresholds.to(torch.float32).numpy()


def _quantized(model: Module, proxy: Any, image: Tensor, quantizer: str) -> Tensor:
    found: list[Tensor] = []

    def stop(module: Module, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
        # Brevitas asks for scales with a zero-dimensional probe.
        if inputs[0].dim() == 0:
            return
        if not bool(torch.isfinite(inputs[0]).all()):
            raise ExportError(f"the input of {quantizer} is not finite for some entering integers")
        found.append(outputs[0].detach())
        raise _ReachedError

    hook = tensor_quant_of(proxy).register_forward_hook(stop)
    try:
        with torch.no_grad():
            model(image)
    except _ReachedError:
        return found[0]
    finally:
        hook.remove()
    raise ExportError(f"{quantizer} is not called")
