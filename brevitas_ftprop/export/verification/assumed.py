"""How far operators without a rounding bound are taken to be off, so that outputs compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from .rounding import Bounded, UnboundedError

# The first of each value, the second of the largest finite one in its image.
RTOL, ATOL = 1e-5, 1e-6
# What the second is of at least, of an input: runtimes and PyTorch approximate a sigmoid, and what
# a GELU multiplies its input by, as numbers near one.
SIZES: dict[str, Callable[[Tensor], Tensor]] = {"Sigmoid": torch.ones_like, "Gelu": torch.abs}


def tolerance(values: Tensor, *, size: float | Tensor = 0.0) -> Tensor:
    """Float64 tensor of what values (N, …) may differ by: 1e-5 of each and 1e-6 of their size.

    Args:
        values: float tensor.
        size: least size, of all or of each, where that of the largest finite value in an image is
            too small.

    >>> tolerance(torch.tensor([[1e-7, 2e-7], [0.0, 3.0]]))
    tensor([[1.2000e-12, 2.2000e-12],
            [3.0000e-06, 3.3000e-05]], dtype=torch.float64)
    """
    sizes = torch.where(values.isfinite(), values.double().abs(), 0.0)
    largest = sizes.amax(tuple(range(1, sizes.dim())), keepdim=True) if sizes.dim() > 1 else sizes
    return RTOL * sizes + ATOL * largest.clamp_min(size)


def assumed(model: ModelProto, node: NodeProto, inputs: Sequence[Bounded | None]) -> Bounded:
    """What an operator gives in float64, with its tolerance and what its inputs' errors add.

    Args:
        model: the graph that the node is of.
        node: a standard operator.
        inputs: of the node; None for those left out.

    Raises:
        UnboundedError: if ONNX's reference implementation does not know the operator, or it gives
            what is not finite.
    """
    run = _runner(model, node)
    values = [None if x is None else x.value for x in inputs]
    value = run(values)
    size = 0.0
    if node.op_type in SIZES and values[0] is not None:
        size = SIZES[node.op_type](values[0])
    error = tolerance(value, size=size)
    for index, x in enumerate(inputs):
        if x is None or x.is_exact:
            continue
        ends = []
        for end in (x.value - x.error, x.value + x.error):
            ends.append((run([*values[:index], end, *values[index + 1 :]]) - value).abs())
        error = error + torch.maximum(*ends)
    if not bool(error.isfinite().all()):
        raise UnboundedError(node.op_type)
    return Bounded(value, error)


def _runner(model: ModelProto, node: NodeProto):
    names = [name for name in node.input if name]
    inputs = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.DOUBLE, None) for n in names]
    outputs = [onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.DOUBLE, None)]
    graph = onnx.helper.make_graph([node], "one", inputs, outputs)
    one = onnx.helper.make_model(graph, opset_imports=model.opset_import)

    def run(values: Sequence[Tensor | None]) -> Tensor:
        given = [value.numpy() for value in values if value is not None]
        try:
            (found,) = ReferenceEvaluator(one).run(None, dict(zip(names, given, strict=True)))
            return torch.from_numpy(np.array(found, dtype=np.float64))
        # Operators that it does not know, or not in float64, fail in any way.
        except Exception as error:
            raise UnboundedError(node.op_type) from error

    return run
