"""The integers behind a layer's quantized weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from onnx import NodeProto, helper

from ..errors import ExportError
from ..node_attributes import attribute_values, integers_in
from .exported_graph import Graph
from .integers import RefusedNodeError


@dataclass(frozen=True)
class IntegerWeights:
    """Weights as PyTorch has them, the zero-point taken off.

    Attributes:
        integers: int64 array (C, …), output channels first.
        scale: float32 array (C,).
        bias: float32 array (C,), or None.
    """

    integers: np.ndarray
    scale: np.ndarray
    bias: np.ndarray | None


def integer_weights(graph: Graph, node: NodeProto, name: str) -> IntegerWeights:
    """The weights of a Conv, Gemm or MatMul node.

    Raises:
        ExportError: if they are not quantized, or have scales that differ within a channel.
    """
    constant = graph.constants.get(node.input[1])
    if constant is None or constant.scale is None:
        raise RefusedNodeError(
            node, "has float weights: quantize them", "unquantized-weight", name=name
        )
    value, scale = constant.value, np.broadcast_to(constant.scale, constant.value.shape)
    if node.op_type == "Gemm":
        _check_gemm(node, name)
    if node.op_type == "MatMul" or (node.op_type == "Gemm" and not _transposed(node)):
        value, scale = value.T, scale.T
    channels = len(value)
    of_channel = scale.reshape(channels, -1)
    if (of_channel != of_channel[:, :1]).any():
        raise ExportError(f"the weights of {name} have several scales for one output channel")
    integers = np.rint(value.astype(np.float64) / scale.astype(np.float64)).astype(np.int64)
    bias = None
    if len(node.input) > 2 and node.input[2]:
        bias = graph.constants[node.input[2]].value.reshape(-1)
        bias = np.broadcast_to(bias, (channels,)).astype(np.float32)
    return IntegerWeights(integers, of_channel[:, 0].astype(np.float32), bias)


def undilated(node: NodeProto, weights: IntegerWeights) -> tuple[NodeProto, IntegerWeights]:
    """The same convolution without dilation, which hls4ml leaves out: zeros between the weights."""
    steps, values = integers_in(node, "dilations", [1, 1]), weights.integers
    if steps == [1, 1]:
        return node, weights
    size = [(kernel - 1) * step + 1 for kernel, step in zip(values.shape[2:], steps, strict=True)]
    spread = np.zeros((*values.shape[:2], *size), dtype=values.dtype)
    spread[:, :, :: steps[0], :: steps[1]] = values
    plain = NodeProto()
    plain.CopyFrom(node)
    changed = {"dilations": [1, 1], "kernel_shape": size}
    kept = [each for each in node.attribute if each.name not in changed]
    del plain.attribute[:]
    plain.attribute.extend([*kept, *(helper.make_attribute(*each) for each in changed.items())])
    return plain, replace(weights, integers=spread)


def _transposed(node: NodeProto) -> bool:
    return bool(attribute_values(node).get("transB", 0))


def _check_gemm(node: NodeProto, name: str) -> None:
    options = attribute_values(node)
    if options.get("alpha", 1.0) != 1.0 or options.get("beta", 1.0) != 1.0 or options.get("transA"):
        raise ExportError(f"{name} is a Gemm with alpha, beta or a transposed input")
