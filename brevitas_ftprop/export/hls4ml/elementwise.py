"""Elementwise nodes behind the sums of a layer, evaluated in float32 as PyTorch does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from onnx import NodeProto
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ...levels import ROUNDINGS_BY_NAME
from ..errors import ExportError
from ..integer_types import integer_range
from ..node_attributes import attribute_values

QUANTIZERS = ("Quant", "IntQuant", "BipolarQuant", "MultiThreshold", "Trunc")


@dataclass(frozen=True)
class Levels:
    """The values that a quantizer node gives: ``(first + k·step)·scale`` for k = 0 … count.

    Attributes:
        scale: positive.
        first: smallest integer, the zero-point taken off.
        step: 2 for sign, else 1.
        count: number of steps.
    """

    scale: float
    first: int
    step: int
    count: int

    @property
    def last(self) -> int:
        return self.first + self.step * self.count

    def index(self, values: Tensor) -> np.ndarray:
        """Number k of each value, int64."""
        integers = torch.round(values.double() / self.scale)
        return ((integers - self.first) / self.step).round().to(torch.int64).numpy()


def is_elementwise(node: NodeProto) -> bool:
    """Whether a node is a monotone function of each element alone."""
    return node.op_type in STEPS


def apply_chain(
    nodes: Sequence[tuple[NodeProto, Sequence[np.ndarray | None]]], x: Tensor
) -> Tensor:
    """Run elementwise nodes, each with its constant inputs (None where the data comes in).

    Args:
        nodes: in order.
        x: float32 tensor (M, C) or (M, C, 1, 1), or float64 for arithmetic in that.

    Raises:
        ExportError: if a node has a parameter for each pixel.
    """
    for node, constants in nodes:
        operands = [
            x if c is None else torch.from_numpy(np.array(c)).to(x.dtype) for c in constants
        ]
        y = STEPS[node.op_type](attribute_values(node), *operands)
        if y.shape != x.shape:
            raise ExportError(
                f"{node.name} ({node.op_type}) has other parameters than one for each channel"
            )
        x = y
    return x


def apply_step(node: NodeProto, operands: Sequence[np.ndarray]) -> np.ndarray:
    """Run one elementwise node on constants."""
    tensors = [torch.from_numpy(np.array(operand)) for operand in operands]
    return STEPS[node.op_type](attribute_values(node), *tensors).numpy()


def levels_of(node: NodeProto, constants: Sequence[np.ndarray | None], name: str) -> Levels:
    """The levels of a quantizer node.

    Raises:
        ExportError: if it has no single scale, zero-point or bit width.
    """
    options = attribute_values(node)
    if node.op_type == "MultiThreshold":
        first, step = options.get("out_bias", 0.0), options.get("out_scale", 1.0)
        return Levels(1.0, round(first), round(step), _array(constants[1]).shape[1])
    scale = _scalar(constants[1], "scale", name)
    if node.op_type == "BipolarQuant":
        return Levels(scale, -1, 2, 1)
    if node.op_type == "Trunc":
        scale, bits = (_scalar(constants[i], what, name) for i, what in ((4, "scale"), (5, "bits")))
        low, high = _range_in(options, round(bits))
        return Levels(scale, low, 1, high - low)
    zero_point = round(_scalar(constants[2], "zero-point", name))
    bits = round(_scalar(constants[3], "bit width", name))
    low, high = _range_in(options, bits)
    return Levels(scale, low - zero_point, 1, high - low)


def rescaled(
    levels: Levels, node: NodeProto, constants: Sequence[np.ndarray | None], name: str
) -> Levels:
    """Levels behind a node that takes off a zero-point, or multiplies.

    Raises:
        ExportError: for a factor that is not positive.
    """
    value = next(float(c.reshape(-1)[0]) for c in constants if c is not None)
    if node.op_type == "Sub":
        return replace(levels, first=levels.first - round(value))
    if not value > 0:
        raise ExportError(f"{name} has a scale that is not positive")
    return replace(levels, scale=levels.scale * value)


def _range_in(options: dict[str, Any], bits: int) -> tuple[int, int]:
    return integer_range(bits, signed=bool(options["signed"]), narrow=bool(options["narrow"]))


def _scalar(array: np.ndarray | None, what: str, name: str) -> float:
    values = np.unique(_array(array))
    if values.size != 1:
        raise ExportError(
            f"{name} has one {what} for each channel, which the integer sums behind it cannot "
            "hold: use a per-tensor activation quantizer"
        )
    return float(values[0])


def _array(array: np.ndarray | None) -> np.ndarray:
    if array is None:
        raise ExportError("a quantizer's parameters are computed, not constant")
    return array


def _batch_norm(options, x, weight, bias, mean, variance):
    return F.batch_norm(x, mean, variance, weight, bias, eps=options.get("epsilon", 1e-5))


def _quant(options, x, scale, zero_point, bits):
    low, high = _range_in(options, round(float(bits)))
    rounded = ROUNDINGS_BY_NAME[options["rounding_mode"].upper()](x / scale + zero_point)
    return (rounded.clamp(low, high) - zero_point) * scale


def _trunc(options, x, scale, zero_point, bits, scale_behind, kept):
    low, high = _range_in(options, round(float(kept)))
    sums = (x / scale + zero_point).round() / torch.exp2((scale_behind / scale).log2().round())
    return scale_behind * ROUNDINGS_BY_NAME[options["rounding_mode"].upper()](sums).clamp(low, high)


def _bipolar(options, x, scale):
    return torch.where(x >= 0, scale, -scale)


def _multi_threshold(options, x, thresholds):
    # Channels first, as in x.
    shaped = thresholds.reshape(1, len(thresholds), *(1,) * (x.dim() - 2), -1)
    reached = (x.unsqueeze(-1) >= shaped).sum(-1).to(x.dtype)
    return options.get("out_scale", 1.0) * reached + options.get("out_bias", 0.0)


STEPS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda options, a, b: a + b,
    "Sub": lambda options, a, b: a - b,
    "Mul": lambda options, a, b: a * b,
    "Div": lambda options, a, b: a / b,
    "Relu": lambda options, x: x.relu(),
    "Identity": lambda options, x: x,
    "BatchNormalization": _batch_norm,
    "Quant": _quant,
    "IntQuant": _quant,
    "BipolarQuant": _bipolar,
    "MultiThreshold": _multi_threshold,
    "Trunc": _trunc,
}
