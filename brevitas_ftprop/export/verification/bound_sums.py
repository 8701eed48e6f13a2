"""Error bounds of the operators that add up: convolutions, products of matrices, means."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ..float32 import UNIT
from .bound_steps import require_explicit_padding, torch_pads
from .rounding import Bounded, UnboundedError, gamma, quantum_exponent, sum_error

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
AVERAGES = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
# Roundings of a batch norm in whichever form: var + eps, its root, the quotient with the weight,
# mean·alpha, the difference with beta, x·alpha and the last addition, with one to spare.
BATCH_NORM_ROUNDINGS = 8


def convolution(attributes: dict[str, Any], x: Bounded, w: Bounded, b: Bounded | None = None):
    """Error: Σ|w|·error(x) plus the rounding of the sum of K = C/groups·∏kernel terms."""
    require_explicit_padding(attributes)
    spatial = x.value.dim() - 2
    pads = attributes.get("pads", [0] * 2 * spatial)
    apply = CONVOLUTIONS[spatial]
    options = {
        "stride": attributes.get("strides", [1] * spatial),
        "dilation": attributes.get("dilations", [1] * spatial),
        "groups": attributes.get("group", 1),
    }

    def convolve(data: Tensor, weight: Tensor) -> Tensor:
        return apply(F.pad(data, torch_pads(pads)), weight, **options)

    columns = (1, -1, *(1,) * spatial)
    per_channel = quantum_exponent(w.value, dims=range(1, w.value.dim())).reshape(columns)
    value, total = convolve(x.value, w.value), convolve(x.magnitude, w.magnitude)
    propagated = convolve(x.error, w.magnitude) + convolve(x.value.abs(), w.error)
    terms = w.value[0].numel()
    return _with_bias(
        value, total, propagated, _product_quantum(x, w, per_channel), terms, b, columns
    )


def gemm(attributes: dict[str, Any], a: Bounded, w: Bounded, b: Bounded | None = None):
    """Fully connected layer; as ``convolution`` with K = number of inputs."""
    if attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
        raise UnboundedError("Gemm with alpha or beta")
    if attributes.get("transA", 0):
        a = Bounded(a.value.T, a.error.T)
    if attributes.get("transB", 0):
        w = Bounded(w.value.T, w.error.T)
    return matmul({}, a, w, b)


def matmul(attributes: dict[str, Any], a: Bounded, w: Bounded, b: Bounded | None = None):
    """Matrix product; as ``convolution`` with K = the shared dimension."""
    value, total = a.value @ w.value, a.magnitude @ w.magnitude
    propagated = a.error @ w.magnitude + a.value.abs() @ w.error
    per_column = quantum_exponent(w.value, dims=[-2]) if w.value.dim() > 1 else None
    quantum = _product_quantum(a, w, per_column)
    return _with_bias(value, total, propagated, quantum, a.value.shape[-1], b, (1, -1))


def batch_norm(attributes: dict[str, Any], x: Bounded, weight, bias, mean, variance):
    """Error: |alpha|·error(x) plus 8·u·(|x·alpha| + |mean·alpha| + |bias|)."""
    if attributes.get("training_mode", 0):
        raise UnboundedError("BatchNormalization in training mode")
    shape = (1, -1, *(1,) * (x.value.dim() - 2))
    epsilon = attributes.get("epsilon", 1e-5)
    alpha = (weight.value / (variance.value + epsilon).sqrt()).reshape(shape)
    mean, bias = mean.value.reshape(shape), bias.value.reshape(shape)
    value = (x.value - mean) * alpha + bias
    size = x.magnitude * alpha.abs() + (mean * alpha).abs() + bias.abs()
    return Bounded(value, x.error * alpha.abs() + gamma(BATCH_NORM_ROUNDINGS) * size)


def average_pool(attributes: dict[str, Any], x: Bounded):
    """Mean over windows; see ``_mean``."""
    require_explicit_padding(attributes)
    kernel = attributes["kernel_shape"]
    pads = attributes.get("pads", [0] * 2 * len(kernel))
    counted = any(pads) and not attributes.get("count_include_pad", 0)
    dilated = any(step != 1 for step in attributes.get("dilations", []))
    if attributes.get("ceil_mode", 0) or counted or dilated:
        raise UnboundedError("AveragePool with ceil_mode, dilations or uncounted padding")

    def pool(data: Tensor) -> Tensor:
        strides = attributes.get("strides", [1] * len(kernel))
        return AVERAGES[len(kernel)](F.pad(data, torch_pads(pads)), kernel, strides)

    return _mean(x, pool, math.prod(kernel))


def global_average_pool(attributes: dict[str, Any], x: Bounded):
    """Mean over all spatial positions; see ``_mean``."""
    dims = tuple(range(2, x.value.dim()))
    return _mean(x, lambda data: data.mean(dims, keepdim=True), x.value[0, 0].numel())


def reduce_mean(attributes: dict[str, Any], x: Bounded, axes: Bounded | None = None):
    """Mean over axes; see ``_mean``."""
    dims = attributes.get("axes") if axes is None else axes.value.tolist()
    if not dims:
        dims = list(range(x.value.dim()))
    keep = bool(attributes.get("keepdims", 1))
    count = math.prod(x.value.shape[dim] for dim in dims)
    return _mean(x, lambda data: data.mean(tuple(dims), keepdim=keep), count)


def _mean(x: Bounded, average, count: int) -> Bounded:
    """Error: the mean error, plus the rounding of the sum, plus two for the division.

    Dividing by a power of two is exact.
    """
    value, size, propagated = average(x.value), average(x.magnitude), average(x.error)
    quantum = quantum_exponent(x.value) if x.is_exact else None
    error = propagated + sum_error(size * count, count, quantum) / count
    if count & (count - 1):
        error = error + 2 * UNIT * (value.abs() + error)
    return Bounded(value, error)


def _with_bias(value, total, propagated, quantum, terms, bias: Bounded | None, shape) -> Bounded:
    if bias is not None:
        offset = bias.value.reshape(shape) if bias.value.dim() == 1 else bias.value
        value, total, terms = value + offset, total + offset.abs(), terms + 1
        if quantum is not None:
            own = quantum_exponent(offset, dims=[])
            quantum = torch.minimum(quantum, own)
    return Bounded(value, propagated + sum_error(total, terms, quantum))


def _product_quantum(x: Bounded, w: Bounded, of_weights: Tensor | None) -> Tensor | None:
    if not (x.is_exact and w.is_exact):
        return None
    weights = quantum_exponent(w.value) if of_weights is None else of_weights
    return quantum_exponent(x.value) + weights


SUMS = {
    "Conv": convolution,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": batch_norm,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "ReduceMean": reduce_mean,
}
