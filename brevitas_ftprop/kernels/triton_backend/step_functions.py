"""The quantization steps of :mod:`..registered_steps` as Triton functions of a tile of the input.

Each takes the kind of step as a constant, and its numbers at run time: ``first`` and ``second``,
which :mod:`.prepare` fills in.
"""

# The functions are Triton's, which no type checker can follow, and Triton may be missing.
# pyright: basic, reportMissingImports=false

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
def scaled(
    x,
    scale,
    zero_point,
    second,
    step: tl.constexpr,
    exact: tl.constexpr,
    quotient: tl.constexpr,
    dtype: tl.constexpr,
    smooth: tl.constexpr,
):
    """``x`` in the units of the thresholds; for a sign, of the scale."""
    if step == "staircase":
        v = x
    else:
        if smooth:
            v = x * inverse(as_operand(scale, exact, quotient))
        else:
            v = rounded(divided(x, as_operand(scale, exact, quotient)), quotient)
        if step == "integers":
            v = rounded(v + rounded(zero_point, dtype), dtype)
        if step == "ternary":
            v = rounded(v * second, dtype)
    return v


@triton.jit
def round_by(v, rounding: tl.constexpr):
    """The integer before it is clipped."""
    if rounding == "round":
        result = half_to_even(v)
    elif rounding == "ceil":
        result = upwards(v)
    elif rounding == "floor":
        result = downwards(v)
    else:
        result = tl.where(v < 0, upwards(v), downwards(v))
    return result


@triton.jit
def level(x, integer, raw_scale, lo, hi, number, step: tl.constexpr, dtype: tl.constexpr):
    """The integer that ``x`` is quantized to."""
    if step == "sign":
        result = tl.where(x >= 0, 1.0, -1.0).to(x.dtype)
    elif step == "ternary":
        end = rounded(times_number(raw_scale, number, x.dtype), dtype)
        result = tl.where(tl.abs(x) > end, sign(x), 0.0).to(x.dtype)
    elif step == "integers":
        result = clamped(integer, rounded(lo, dtype), rounded(hi, dtype))
    else:
        steps = tl.full((), number, x.dtype)
        result = clamped(upwards(rounded(x * (steps - 1), dtype)), 0.0, steps)
    return result


@triton.jit
def output(
    of_level,
    scale,
    zero_point,
    second,
    step: tl.constexpr,
    exact: tl.constexpr,
    dtype: tl.constexpr,
):
    """The quantized value of a level."""
    if step == "staircase":
        y = of_level * second
    else:
        if step == "integers":
            of_level = rounded(of_level - rounded(zero_point, dtype), dtype)
        y = of_level * as_operand(scale, exact, dtype)
    return rounded(y, dtype)


@triton.jit
def _unit(
    x,
    v,
    lo,
    hi,
    step: tl.constexpr,
    on_cpu: tl.constexpr,
    dtype: tl.constexpr,
    smooth: tl.constexpr,
):
    """Pre-activation of the one unit over the whole range, before it is clipped."""
    if step == "sign":
        u = v
    elif step == "ternary":
        u = rounded(v * tl.full((), 0.6666666666666666, v.dtype), dtype)
    elif step == "integers":
        width = as_operand((hi - lo + 1) * 0.5, on_cpu, dtype)
        u = rounded(v - rounded((lo + hi) * 0.5, dtype), dtype)
        u = u * inverse(width) if smooth else rounded(divided(u, width), dtype)
    else:
        u = rounded(rounded(x * 2, dtype) - 1, dtype)
    return u


@triton.jit
def _of_unit(z, target, slope: tl.constexpr, p0, p1, p2, even: tl.constexpr, dtype: tl.constexpr):
    # A pre-activation that its scale took beyond the dtype must not meet a target of 0 as inf.
    margin = z if even else saturated(z, dtype) * target
    return rounded(slope_at(margin, p0, p1, p2, slope, dtype), dtype)


@triton.jit
def slope_of(
    x,
    v,
    integer,
    lo,
    hi,
    target,
    first,
    p0,
    p1,
    p2,
    step: tl.constexpr,
    summed: tl.constexpr,
    slope: tl.constexpr,
    even: tl.constexpr,
    clips: tl.constexpr,
    passes_inside: tl.constexpr,
    on_cpu: tl.constexpr,
    dtype: tl.constexpr,
    smooth: tl.constexpr,
):
    """Total slope at ``x``.

    Args:
        x, v, integer: the input, scaled, and rounded to an integer before that is clipped.
        lo, hi, first: smallest and largest integer, and the step's first number.
        target: of each unit; not used where the rule is even.
        p0, p1, p2: parameters of the slope.
        step, summed: the step, and whether its form is the sum.
        slope, even: the shape of the rule's slope.
        clips: whether the one unit is clipped at the ends of its range.
        passes_inside: whether the gradient passes inside that range and nowhere else.
        on_cpu: whether plain numbers take part in sums as the CPU has it.
        dtype: what torch computes in, or where it need not equal torch's, what the kernel does.
        smooth: whether it need not, so that a multiplication takes the place of a division.
    """
    if summed:
        if step == "integers":
            start, stop = lo.to(tl.int32), hi.to(tl.int32)
        elif step == "ternary":
            start, stop = 0, 2
        else:
            start, stop = 0, first.to(tl.int32)
        result = tl.full(v.shape, 0.0, v.dtype)
        for k in range(start, stop):
            threshold = tl.full((), k, v.dtype)
            if step == "integers":
                threshold = threshold + 0.5
            elif step == "ternary":
                threshold = threshold - 0.5
            else:
                threshold = divided(threshold, first - 1)
            if on_cpu:
                threshold = rounded(threshold, dtype)
            z = rounded(v - threshold, dtype)
            one = _of_unit(z, target, slope, p0, p1, p2, even, dtype)
            result = rounded(result + one, dtype)
        result = saturated(result, dtype)
        if step == "staircase":
            result = rounded(result * divided(tl.full((), 1.0, v.dtype), first), dtype)
        else:
            result = result * 0.5
    elif clips:
        if step == "integers":
            low, high, where = rounded(lo, dtype), rounded(hi, dtype), integer
        else:
            low, high, where = tl.full((), 0.0, v.dtype), tl.full((), 1.0, v.dtype), x
        if passes_inside:
            result = tl.where((where >= low) & (where <= high), 1.0, 0.0).to(v.dtype)
        else:
            u = _unit(x, v, lo, hi, step, on_cpu, dtype, smooth)
            side = sign(where - clamped(where, low, high))
            inside = clamped(u, -1.0, 1.0) * (1 - tl.abs(side))
            u = inside + above_one(u, dtype) * side
            result = _of_unit(u, target, slope, p0, p1, p2, even, dtype)
    else:
        u = _unit(x, v, lo, hi, step, on_cpu, dtype, smooth)
        result = _of_unit(u, target, slope, p0, p1, p2, even, dtype)
    return result
