"""The kernel of the backward pass; its arguments are as in :mod:`.forward_kernel`."""

# The functions are Triton's, which no type checker can follow, and Triton may be missing.
# pyright: basic, reportMissingImports=false, reportInvalidTypeForm=false
# pyright: reportGeneralTypeIssues=false

import triton
import triton.language as tl

from .arithmetic import divided, inverse, narrowed, rounded, sign, widened
from .coding import code_numbers, decoded
from .halves import scaled_input
from .step_functions import (
    as_operand,
    level,
    load_operand,
    round_by,
    scaled,
    slope_of,
    times_number,
)
from .sums import store_sum
from .tiles import places


# Sizes are no part of what is compiled.
@triton.jit(do_not_specialize=["units", "code_size", "channels", "inner", "outer", "chunks"])
def backward_pass(
    grad_ptr,
    kept_ptr,
    of_x_ptr,
    partial_ptr,
    scale_ptr,
    zero_point_ptr,
    lo_ptr,
    hi_ptr,
    rounded_ptr,
    units: tl.int64,
    code_size: tl.int64,
    channels: tl.int64,
    inner: tl.int64,
    outer: tl.int64,
    chunks: tl.int64,
    first_number: tl.float64,
    second_number: tl.float64,
    weight: tl.float64,
    rule_0: tl.float64,
    rule_1: tl.float64,
    rule_2: tl.float64,
    code_base: tl.float64,
    code_unit: tl.float64,
    step: tl.constexpr,
    rounding: tl.constexpr,
    summed: tl.constexpr,
    relu: tl.constexpr,
    slope: tl.constexpr,
    even: tl.constexpr,
    clips: tl.constexpr,
    passes_inside: tl.constexpr,
    clamps: tl.constexpr,
    mean: tl.constexpr,
    kept: tl.constexpr,
    needs_scale: tl.constexpr,
    needs_zero_point: tl.constexpr,
    needs_bounds: tl.constexpr,
    scale_varies: tl.constexpr,
    zero_point_varies: tl.constexpr,
    exact: tl.constexpr,
    on_cpu: tl.constexpr,
    bits: tl.constexpr,
    unit_counted: tl.constexpr,
    quotient: tl.constexpr,
    dtype: tl.constexpr,
    compute: tl.constexpr,
    smooth: tl.constexpr,
    index: tl.constexpr,
    by: tl.constexpr,
    layout: tl.constexpr,
    height: tl.constexpr,
    width: tl.constexpr,
):
    """Gradient of the input, and partial sums of those of the operands.

    Args:
        weight: 1/N.
        smooth: whether slopes and gradients may differ from eager's by a few roundings, so that a
            multiplication takes the place of a division.
        units, channels, inner, outer, chunks, by, layout, height, width: see :mod:`.tiles`.
    """
    at, mask, channel, of_channel, chunk = places(
        units,
        channels,
        inner,
        outer,
        chunks,
        by,
        scale_varies or zero_point_varies,
        layout,
        height,
        width,
        index,
    )
    channels, chunks = channels.to(index), chunks.to(index)
    grad = widened(tl.load(grad_ptr + at, mask=mask, other=0.0), compute)
    first, second = tl.full((), first_number, compute), tl.full((), second_number, compute)
    raw_scale, scale, zero_point, lo, hi = first, first, first, first, first
    if step != "staircase":
        raw_scale = load_operand(scale_ptr, channel, of_channel, scale_varies)
        scale = widened(raw_scale, compute)
    if step == "integers":
        zero_point = widened(
            load_operand(zero_point_ptr, channel, of_channel, zero_point_varies), compute
        )
        lo, hi = widened(tl.load(lo_ptr), compute), widened(tl.load(hi_ptr), compute)
    factor = as_operand(scale, exact, dtype)
    entered = grad
    if step == "integers":
        entered = rounded(grad * factor, dtype)
    target = -sign(entered)

    x = tl.full(grad.shape, 0.0, compute)
    if kept == "input":
        x = widened(tl.load(kept_ptr + at, mask=mask, other=0.0), compute)
    elif kept == "half":
        x = scaled_input(tl.load(kept_ptr + at, mask=mask, other=0), compute)
        if step != "staircase":
            x = rounded(x * as_operand(scale, exact, quotient), quotient)
        x = rounded(x, grad_ptr.dtype.element_ty)
    gate = tl.where(x <= 0, 0.0, 1.0).to(compute)
    if relu:
        x = tl.where(x < 0, 0.0, x)
    # An integer that is compared has to be eager's.
    compared: tl.constexpr = step == "integers" and (needs_scale or needs_bounds)
    quick: tl.constexpr = smooth and not compared
    within: tl.constexpr = compute if quick else dtype
    v = scaled(x, scale, zero_point, second, step, exact, quotient, within, quick)
    integer = v
    if step == "integers":
        if rounded_ptr is not None:
            integer = widened(tl.load(rounded_ptr + at, mask=mask, other=0.0), compute)
        else:
            integer = round_by(v, rounding)
    if kept == "code":
        low, unit = code_numbers(
            code_base, code_unit, lo, hi, summed and step == "integers", unit_counted, compute
        )
        of_unit = decoded(
            kept_ptr, at, mask, low, unit, target, code_size, even, bits, compute, dtype
        )
    else:
        p0, p1, p2 = (
            tl.full((), rule_0, compute),
            tl.full((), rule_1, compute),
            tl.full((), rule_2, compute),
        )
        of_unit = slope_of(
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
            step,
            summed,
            slope,
            even,
            clips,
            passes_inside,
            on_cpu,
            within,
            quick,
        )

    weighted = entered
    if mean:
        weighted = rounded(sign(entered) * tl.full((), weight, compute), dtype)
        if step == "integers":
            weighted = rounded(weighted * factor, dtype)
    passed = rounded(of_unit * weighted, dtype)
    # The operands stand behind the ReLU; their gradients do not know of it.
    through = passed * gate if relu and (kept == "input" or kept == "half") else passed
    if step == "integers":
        of_x = through * inverse(factor) if smooth else divided(through, factor)
    elif step == "staircase":
        of_x = through * second
    else:
        of_x = through * factor
    tl.store(of_x_ptr + at, narrowed(of_x, of_x_ptr.dtype.element_ty), mask=mask)

    of_zero_point: tl.constexpr = 1 if needs_scale else 0
    of_bounds: tl.constexpr = of_zero_point + (1 if needs_zero_point else 0)
    if needs_scale:
        of_level = level(x, integer, raw_scale, lo, hi, first_number, step, dtype)
        if step == "integers":
            terms = grad * (of_level - zero_point)
            # Sums in another order than eager's have other bits in any case.
            terms = terms - passed * (x * inverse(factor) * inverse(factor))
        else:
            terms = grad * of_level
        if clamps:
            # The ends of the clamp that the rule is the gradient of move with the scale.
            end = times_number(raw_scale, first_number, compute)
            above = tl.where(x > rounded(end, dtype), 1.0, 0.0).to(compute)
            below = tl.where(x < -rounded(end, dtype), 1.0, 0.0).to(compute)
            terms = terms + grad * end * (above - below)
        store_sum(partial_ptr, terms, mask, 0, channel, chunk, channels, chunks, layout)
    if needs_zero_point:
        terms = passed - entered
        store_sum(partial_ptr, terms, mask, of_zero_point, channel, chunk, channels, chunks, layout)
    if needs_bounds:
        terms = tl.where(integer < rounded(lo, dtype), entered, 0.0)
        store_sum(partial_ptr, terms, mask, of_bounds, channel, chunk, channels, chunks, layout)
        terms = tl.where(integer > rounded(hi, dtype), entered, 0.0)
        store_sum(partial_ptr, terms, mask, of_bounds + 1, channel, chunk, channels, chunks, layout)
