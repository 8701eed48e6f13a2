"""Activation quantizers as the exact thresholds that they are."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ....levels import LevelFunction
from ...graph_edits import add_constant, add_tensor, multi_threshold, replace
from ...graph_reading import initializer, shape_of
from ...node_attributes import attribute_values
from ...quant_nodes import quant_levels


class QuantToThresholds(Transformation):
    """Turn ``Quant`` and ``BipolarQuant`` nodes on activations into ``MultiThreshold`` nodes.

    FINN does this too, but reads neither the rounding mode (its thresholds are those of ROUND, and
    misplace half of ROUND's own ties) nor keeps a sign's ±1 from meeting the zeros of a padding.
    Here each threshold is the smallest float32 that reaches its level, found by bisection on the
    quantizer's own arithmetic, and a sign is INT2 with both of its thresholds at 0, so that it
    gives -1 and 1 and leaves room for a padded 0. A ReLU before an unsigned quantizer goes into
    it, and so does a zero-point, which shifts the integers. The scale follows as a ``Mul``.

    Raises:
        ValueError: for a quantizer of more than 8 bits, or a scale that is computed.

    References:
        Umuroglu & Jahre, Streamlined Deployment for Quantized Neural Networks, arXiv:1709.04060
        (quantizers as thresholds).
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for node in model.graph.node:
            if node.op_type in ("Quant", "BipolarQuant") and not _is_static(model, node.input[0]):
                _convert(model, node)
                return model, True
        return model, False


def _is_static(model: ModelWrapper, name: str) -> bool:
    producer = model.find_producer(name)
    if producer is None:
        return initializer(model, name) is not None
    return all(_is_static(model, source) for source in producer.input if source)


def _convert(model: ModelWrapper, node: NodeProto) -> None:
    values = [initializer(model, name) for name in node.input[1:]]
    parameters = [value for value in values if value is not None]
    if len(parameters) < len(values):
        raise ValueError(f"{node.name} has a scale, zero-point or bit width that is computed")
    scale = np.asarray(parameters[0], np.float32)
    zero_point = np.zeros((), np.float32)
    source, old = node.input[0], [node]
    if node.op_type == "BipolarQuant":
        thresholds, lowest = np.zeros((1, 2), np.float32), -1
    else:
        zero_point = np.asarray(parameters[1], np.float32)
        function = _levels(node, scale, zero_point, int(parameters[2].item()))
        thresholds, lowest = function.thresholds().numpy(), function.level_values[0]
        before = model.find_producer(source)
        # Levels above the lowest begin above 0, where a ReLU changes nothing.
        if (
            before is not None
            and before.op_type == "Relu"
            and not model.is_fork_node(before)
            and thresholds.min() > 0
        ):
            source, old = before.input[0], [before, node]
    if zero_point.size == 1:
        # An Add in front of a layer that pads would stay there, and keep its input a float.
        lowest, zero_point = lowest - int(zero_point.item()), np.zeros_like(zero_point)
    shape = shape_of(model, node.output[0])
    integers, centred = (add_tensor(model, shape) for _ in range(2))
    new = [multi_threshold(model, source, integers, thresholds, lowest, like=node)]
    if zero_point.any():
        new.append(_affine("Add", integers, add_constant(model, -zero_point), centred))
    new.append(_affine("Mul", new[-1].output[0], add_constant(model, scale), node.output[0]))
    replace(model, old, new)


def _levels(node: NodeProto, scale: np.ndarray, zero_point: np.ndarray, bits: int) -> LevelFunction:
    if bits > 8:
        raise ValueError(f"{node.name} has {bits} bits; thresholds are for 8 or fewer")
    parameters = torch.from_numpy(scale.copy()), torch.from_numpy(zero_point.copy())
    try:
        return quant_levels(attribute_values(node), *parameters, bits)
    except ValueError as error:
        raise ValueError(f"{node.name} has {error}") from error


def _affine(operator: str, source: str, parameter: str, result: str) -> NodeProto:
    return onnx.helper.make_node(operator, [source, parameter], [result])
