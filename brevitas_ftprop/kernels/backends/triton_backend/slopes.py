"""The slopes of the built-in rules, made of a few shapes with runtime parameters.

A rule is found by its very class: a subclass may slope otherwise. What a comparison decides uses
the constants that the margin's dtype holds, as in :mod:`brevitas_ftprop.rules`.
"""

# The functions are Triton's, which no type checker can follow, and Triton may be missing.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

import triton
import triton.language as tl

from ....rules import (
    Adaline,
    ApproxSign,
    Ede,
    Hinge,
    LecunTanh,
    LogHinge,
    Logistic,
    LogSigmoid,
    Perceptron,
    Ramp,
    Reste,
    Rule,
    SaturatedSte,
    Sigmoid,
    SoftHinge,
    Square,
    SquaredHinge,
    Ste,
    SwishSign,
    TruncatedHinge,
    TruncatedLogHinge,
    TruncatedLogistic,
    TruncatedPerceptron,
    TruncatedSquare,
    TruncatedSquaredHinge,
)
from .arithmetic import clamped, rounded, saturated


@triton.jit
def _constant(m, p0, p1, p2, dtype: tl.constexpr):
    return tl.full(m.shape, 1.0, m.dtype)


@triton.jit
def _band(m, lower, upper, height, dtype: tl.constexpr):
    inside = (m >= rounded(lower, dtype)) & (m <= rounded(upper, dtype))
    return tl.where(inside, height, 0.0).to(m.dtype)


@triton.jit
def _log_band(m, lower, upper, height, dtype: tl.constexpr):
    low, high = rounded(lower, dtype), rounded(upper, dtype)
    inside = tl.where((m >= low) & (m <= high), height, 0.0).to(m.dtype)
    return inside / (2 - clamped(m, low, high))


@triton.jit
def _line(m, factor, p1, p2, dtype: tl.constexpr):
    return factor * (1 - m)


@triton.jit
def _half_line(m, factor, p1, p2, dtype: tl.constexpr):
    distance = 1 - m
    return saturated(factor * tl.where(distance < 0, 0.0, distance).to(m.dtype), dtype)


@triton.jit
def _truncated_line(m, factor, p1, p2, dtype: tl.constexpr):
    inside = tl.where(m >= -1, factor, 0.0).to(m.dtype)
    return inside * (1 - clamped(m, -1.0, 1.0))


@triton.jit
def _logistic(m, lower, rate, height, dtype: tl.constexpr):
    inside = tl.where(m >= rounded(lower, dtype), height, 0.0).to(m.dtype)
    return inside / (1 + tl.exp(rate * m))


@triton.jit
def _trapezoid(m, end, highest, factor, dtype: tl.constexpr):
    return factor * clamped(end - tl.abs(m), 0.0, highest)


@triton.jit
def _sigmoid_derivative(v):
    decay = tl.exp(-tl.abs(v))
    return decay / ((1 + decay) * (1 + decay))


@triton.jit
def _bump(m, rate, height, p2, dtype: tl.constexpr):
    return height * _sigmoid_derivative(rate * m)


@triton.jit
def _swish(m, beta, p1, p2, dtype: tl.constexpr):
    # Beyond the dtype's range the bump is 0, which an infinite v would turn into NaN.
    v = saturated(beta * m, dtype)
    size = tl.abs(v)
    decay = tl.exp(-size)
    # |v|·tanh(|v|/2): the product is even.
    pull = size * ((1 - decay) / (1 + decay))
    return 2 * beta * _sigmoid_derivative(v) * (2 - pull)


@triton.jit
def _power(m, power, inner_slope, inner, dtype: tl.constexpr):
    inner_end = rounded(inner, dtype)
    distance = tl.abs(m)
    curve = power * tl.exp((power - 1) * tl.log(clamped(distance, inner_end, 1.5)))
    slope = tl.where(distance <= inner_end, inner_slope, curve)
    return tl.where(distance <= 1.5, slope, 0.0).to(m.dtype)


@triton.jit
def slope_at(m, p0, p1, p2, kind: tl.constexpr):
    """Slope at a margin, of the shape and with the parameters that a :class:`Slope` has."""
    dtype: tl.constexpr = kind.within
    if kind.slope == "constant":
        slope = _constant(m, p0, p1, p2, dtype)
    elif kind.slope == "band":
        slope = _band(m, p0, p1, p2, dtype)
    elif kind.slope == "log_band":
        slope = _log_band(m, p0, p1, p2, dtype)
    elif kind.slope == "line":
        slope = _line(m, p0, p1, p2, dtype)
    elif kind.slope == "half_line":
        slope = _half_line(m, p0, p1, p2, dtype)
    elif kind.slope == "truncated_line":
        slope = _truncated_line(m, p0, p1, p2, dtype)
    elif kind.slope == "logistic":
        slope = _logistic(m, p0, p1, p2, dtype)
    elif kind.slope == "trapezoid":
        slope = _trapezoid(m, p0, p1, p2, dtype)
    elif kind.slope == "bump":
        slope = _bump(m, p0, p1, p2, dtype)
    elif kind.slope == "swish":
        slope = _swish(m, p0, p1, p2, dtype)
    else:
        slope = _power(m, p0, p1, p2, dtype)
    return slope


class Slope(NamedTuple):
    """How the kernels compute a rule's slope.

    Attributes:
        shape: what :func:`slope_at` knows it by; old versions of Triton take no function for an
            argument.
        parameters: those of a rule; numbers to the kernels, so that a rule whose shape follows a
            schedule is compiled once.
        smooth: whether it is made of exponentials or quotients, so that its bits are eager's up to
            a few roundings in any case.
    """

    shape: str
    parameters: Callable[[Any], tuple[float, ...]]
    smooth: bool = False


SLOPES: dict[type[Rule], Slope] = {
    Ste: Slope("constant", lambda rule: ()),
    SaturatedSte: Slope("band", lambda rule: (-rule.width, rule.width, 1.0)),
    Hinge: Slope("band", lambda rule: (-inf, 1.0, 1.0)),
    Perceptron: Slope("band", lambda rule: (-inf, 0.0, 1.0)),
    TruncatedHinge: Slope("band", lambda rule: (*rule.kinks, rule.scale)),
    TruncatedPerceptron: Slope("band", lambda rule: (-1.0, 0.0, 1.0)),
    LogHinge: Slope("log_band", lambda rule: (-1.0, 1.0, 1.0), smooth=True),
    TruncatedLogHinge: Slope("log_band", lambda rule: (*rule.kinks, 2.0), smooth=True),
    SquaredHinge: Slope("half_line", lambda rule: (1.0,)),
    Square: Slope("half_line", lambda rule: (2.0,)),
    Adaline: Slope("line", lambda rule: (1.0,)),
    TruncatedSquaredHinge: Slope("truncated_line", lambda rule: (1.0,)),
    TruncatedSquare: Slope("truncated_line", lambda rule: (2.0,)),
    Logistic: Slope("logistic", lambda rule: (-inf, 1.0, 1.0), smooth=True),
    TruncatedLogistic: Slope("logistic", lambda rule: (rule.kinks[0], 1.0, 1.0), smooth=True),
    LogSigmoid: Slope("logistic", lambda rule: (-inf, -rule.x_scale, rule.x_scale), smooth=True),
    Ramp: Slope("trapezoid", lambda rule: (2.0, 1.0, 1.0)),
    ApproxSign: Slope("trapezoid", lambda rule: (1.0, inf, 2.0)),
    Sigmoid: Slope("bump", lambda rule: (rule.x_scale, rule.x_scale * rule.y_scale), smooth=True),
    SoftHinge: Slope("bump", lambda rule: (2 * rule.x_scale, 4 * rule.x_scale), smooth=True),
    LecunTanh: Slope(
        "bump", lambda rule: (2 * rule.x_scale, 4 * rule.x_scale * rule.y_scale), smooth=True
    ),
    Ede: Slope("bump", lambda rule: (2 * rule.t, 4 * rule.k * rule.t), smooth=True),
    SwishSign: Slope("swish", lambda rule: (rule.beta,), smooth=True),
    Reste: Slope("power", lambda rule: (rule.power, rule.slope_range[1], 0.1), smooth=True),
}
