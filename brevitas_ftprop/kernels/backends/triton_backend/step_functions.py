"""The quantization steps of :mod:`...registered_steps` as Triton functions of a tile of the input.

Each takes the kind of kernel, a :class:`.prepare.Kind`, as a constant, and the step's numbers at
run time: ``first`` and ``second``, which :mod:`.prepare` fills in. The kind is handed on whole:
Triton 3.6 takes no string out of it for an argument.
"""

# The functions are Triton's, which no type checker can follow, and Triton may be missing.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

import triton
import triton.language as tl

from .arithmetic import (
    above_one,
    clamped,
    divided,
    downwards,
    half_to_even,
    inverse,
    rounded,
    saturated,
    sign,
    upwards,
    widened,
)
from .slopes import slope_at


@triton.jit
def load_operand(pointer, channel, mask, varies: tl.constexpr):
    """The value of a channel, or the one of all."""
    return tl.load(pointer + channel, mask=mask, other=1.0) if varies else tl.load(pointer)


@triton.jit
def as_operand(scale, exact: tl.constexpr, dtype: tl.constexpr):
    """A scale as torch multiplies and divides by it.

    A 0-dimensional tensor on the CPU keeps its digits where the others get the dtype of the
    result.
    """
    return scale if exact else rounded(scale, dtype)


@triton.jit
def times_number(raw, number, compute: tl.constexpr):
    """A tensor of its own dtype times a number, rounded to that dtype."""
    if raw.dtype == tl.float64:
        product = raw * tl.full((), number, tl.float64)
    else:
        product = widened(raw, tl.float32) * tl.full((), number, tl.float32)
    return rounded(product, raw.dtype).to(compute)


@triton.jit
def load_operands(
    scale_ptr, zero_point_ptr, lo_ptr, hi_ptr, channel, of_channel, kind: tl.constexpr
):
    """Scale as it lies in memory and as it is computed with, zero-point, and bounds.

    What a step does not have is 1.
    """
    one = tl.full((), 1.0, kind.compute)
    raw_scale, scale, zero_point, lo, hi = one, one, one, one, one
    if kind.step != "staircase":
        raw_scale = load_operand(scale_ptr, channel, of_channel, kind.scale_varies)
        scale = widened(raw_scale, kind.compute)
    if kind.step == "integers":
        zero_point = widened(
            load_operand(zero_point_ptr, channel, of_channel, kind.zero_point_varies), kind.compute
        )
        lo, hi = widened(tl.load(lo_ptr), kind.compute), widened(tl.load(hi_ptr), kind.compute)
    return raw_scale, scale, zero_point, lo, hi


@triton.jit
def load_integer(v, rounded_ptr, at, mask, kind: tl.constexpr):
    """The integer before it is clipped: a rounding of the caller's own, or that of ``v``."""
    integer = v
    if kind.step == "integers":
        if rounded_ptr is not None:
            integer = widened(tl.load(rounded_ptr + at, mask=mask, other=0.0), kind.compute)
        else:
            integer = _round_by(v, kind)
    return integer


@triton.jit
def scaled(
    x, scale, zero_point, second, dtype: tl.constexpr, smooth: tl.constexpr, kind: tl.constexpr
):
    """``x`` in the units of the thresholds; for a sign, of the scale.

    Args:
        dtype: what torch computes in, or where it need not equal torch's, what the kernel does.
        smooth: whether it need not, so that a multiplication takes the place of a division.
    """
    if kind.step == "staircase":
        v = x
    else:
        divisor = as_operand(scale, kind.exact, kind.quotient)
        v = x * inverse(divisor) if smooth else rounded(divided(x, divisor), kind.quotient)
        if kind.step == "integers":
            v = rounded(v + rounded(zero_point, dtype), dtype)
        if kind.step == "ternary":
            v = rounded(v * second, dtype)
    return v


@triton.jit
def _round_by(v, kind: tl.constexpr):
    if kind.rounding == "round":
        result = half_to_even(v)
    elif kind.rounding == "ceil":
        result = upwards(v)
    elif kind.rounding == "floor":
        result = downwards(v)
    else:
        result = tl.where(v < 0, upwards(v), downwards(v))
    return result


@triton.jit
def level(x, integer, raw_scale, lo, hi, number, kind: tl.constexpr):
    """The integer that ``x`` is quantized to."""
    if kind.step == "sign":
        result = tl.where(x >= 0, 1.0, -1.0).to(x.dtype)
    elif kind.step == "ternary":
        end = rounded(times_number(raw_scale, number, x.dtype), kind.dtype)
        result = tl.where(tl.abs(x) > end, sign(x), 0.0).to(x.dtype)
    elif kind.step == "integers":
        result = clamped(integer, rounded(lo, kind.dtype), rounded(hi, kind.dtype))
    else:
        steps = tl.full((), number, x.dtype)
        result = clamped(upwards(rounded(x * (steps - 1), kind.dtype)), 0.0, steps)
    return result


@triton.jit
def output(of_level, scale, zero_point, second, kind: tl.constexpr):
    """The quantized value of a level."""
    if kind.step == "staircase":
        y = of_level * second
    else:
        if kind.step == "integers":
            of_level = rounded(of_level - rounded(zero_point, kind.dtype), kind.dtype)
        y = of_level * as_operand(scale, kind.exact, kind.dtype)
    return rounded(y, kind.dtype)


@triton.jit
def _unit(x, v, lo, hi, kind: tl.constexpr):
    """Pre-activation of the one unit over the whole range, before it is clipped."""
    dtype: tl.constexpr = kind.within
    if kind.step == "sign":
        u = v
    elif kind.step == "ternary":
        u = rounded(v * tl.full((), 0.6666666666666666, v.dtype), dtype)
    elif kind.step == "integers":
        width = as_operand((hi - lo + 1) * 0.5, kind.on_cpu, dtype)
        u = rounded(v - rounded((lo + hi) * 0.5, dtype), dtype)
        u = u * inverse(width) if kind.quick else rounded(divided(u, width), dtype)
    else:
        u = rounded(rounded(x * 2, dtype) - 1, dtype)
    return u


@triton.jit
def _of_unit(z, target, p0, p1, p2, kind: tl.constexpr):
    # A pre-activation that its scale took beyond the dtype must not meet a target of 0 as inf.
    margin = z if kind.even else saturated(z, kind.within) * target
    return rounded(slope_at(margin, p0, p1, p2, kind), kind.within)


@triton.jit
def slope_of(
    x, v, integer, lo, hi, target, first_number, rule_0, rule_1, rule_2, kind: tl.constexpr
):
    """Total slope at ``x``.

    Args:
        x, v, integer: the input, scaled, and rounded to an integer before that is clipped.
        lo, hi, first_number: smallest and largest integer, and the step's first number.
        target: of each unit; not used where the rule is even.
        rule_0, rule_1, rule_2: parameters of the slope.
        kind: of the kernel.
    """
    dtype: tl.constexpr = kind.within
    first = tl.full((), first_number, kind.compute)
    p0 = tl.full((), rule_0, kind.compute)
    p1 = tl.full((), rule_1, kind.compute)
    p2 = tl.full((), rule_2, kind.compute)
    if kind.summed:
        if kind.step == "integers":
            start, stop = lo.to(tl.int32), hi.to(tl.int32)
        elif kind.step == "ternary":
            start, stop = 0, 2
        else:
            start, stop = 0, first.to(tl.int32)
        result = tl.full(v.shape, 0.0, v.dtype)
        for k in range(start, stop):
            threshold = tl.full((), k, v.dtype)
            if kind.step == "integers":
                threshold = threshold + 0.5
            elif kind.step == "ternary":
                threshold = threshold - 0.5
            else:
                threshold = divided(threshold, first - 1)
            if kind.on_cpu:
                threshold = rounded(threshold, dtype)
            z = rounded(v - threshold, dtype)
            result = rounded(result + _of_unit(z, target, p0, p1, p2, kind), dtype)
        result = saturated(result, dtype)
        if kind.step == "staircase":
            result = rounded(result * divided(tl.full((), 1.0, v.dtype), first), dtype)
        else:
            result = result * 0.5
    elif kind.clips:
        if kind.step == "integers":
            low, high, where = rounded(lo, dtype), rounded(hi, dtype), integer
        else:
            low, high, where = tl.full((), 0.0, v.dtype), tl.full((), 1.0, v.dtype), x
        if kind.passes_inside:
            result = tl.where((where >= low) & (where <= high), 1.0, 0.0).to(v.dtype)
        else:
            u = _unit(x, v, lo, hi, kind)
            side = sign(where - clamped(where, low, high))
            inside = clamped(u, -1.0, 1.0) * (1 - tl.abs(side))
            u = inside + above_one(u, dtype) * side
            result = _of_unit(u, target, p0, p1, p2, kind)
    else:
        result = _of_unit(_unit(x, v, lo, hi, kind), target, p0, p1, p2, kind)
    return result
