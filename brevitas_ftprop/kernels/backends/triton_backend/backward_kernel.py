"""The kernel of the backward pass; its arguments are as in :mod:`.forward_kernel`."""

# The functions are Triton's, which no type checker can follow, and Triton may be missing.
# pyright: basic, reportMissingImports=false, reportInvalidTypeForm=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import triton
import triton.language as tl

from .arithmetic import divided, inverse, narrowed, rounded, sign, widened
from .coding import code_numbers, decoded
from .halves import scaled_input
from .step_functions import (
    as_operand,
    level,
    load_integer,
    load_operands,
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
    clamps: tl.constexpr,
    mean: tl.constexpr,
    kept: tl.constexpr,
    needs_scale: tl.constexpr,
    needs_zero_point: tl.constexpr,
    needs_bounds: tl.constexpr,
    kind: tl.constexpr,
):
    """Gradient of the input, and partial sums of those of the operands.

    Args:
        weight: 1/N.
        units, channels, inner, outer, chunks: see :mod:`.tiles`.
        kind: a :class:`.prepare.Kind`.
    """
    at, mask, channel, of_channel, chunk = places(units, channels, inner, outer, chunks, kind)
    channels, chunks = channels.to(kind.index), chunks.to(kind.index)
    grad = widened(tl.load(grad_ptr + at, mask=mask, other=0.0), kind.compute)
    second = tl.full((), second_number, kind.compute)
    raw_scale, scale, zero_point, lo, hi = load_operands(
        scale_ptr, zero_point_ptr, lo_ptr, hi_ptr, channel, of_channel, kind
    )
    factor = as_operand(scale, kind.exact, kind.dtype)
    entered = grad
    if kind.step == "integers":
        entered = rounded(grad * factor, kind.dtype)
    target = -sign(entered)

    x = tl.full(grad.shape, 0.0, kind.compute)
    if kept == "input":
        x = widened(tl.load(kept_ptr + at, mask=mask, other=0.0), kind.compute)
    elif kept == "half":
        x = scaled_input(tl.load(kept_ptr + at, mask=mask, other=0), kind.compute)
        if kind.step != "staircase":
            x = rounded(x * as_operand(scale, kind.exact, kind.quotient), kind.quotient)
        x = rounded(x, grad_ptr.dtype.element_ty)
    gate = tl.where(x <= 0, 0.0, 1.0).to(kind.compute)
    if kind.relu:
        x = tl.where(x < 0, 0.0, x)
    v = scaled(x, scale, zero_point, second, kind.within, kind.quick, kind)
    integer = load_integer(v, rounded_ptr, at, mask, kind)
    if kept == "code":
        low, unit = code_numbers(code_base, code_unit, lo, hi, kind)
        of_unit = decoded(kept_ptr, at, mask, low, unit, target, code_size, kind)
    else:
        of_unit = slope_of(
            x, v, integer, lo, hi, target, first_number, rule_0, rule_1, rule_2, kind
        )

    weighted = entered
    if mean:
        weighted = rounded(sign(entered) * tl.full((), weight, kind.compute), kind.dtype)
        if kind.step == "integers":
            weighted = rounded(weighted * factor, kind.dtype)
    passed = rounded(of_unit * weighted, kind.dtype)
    # The operands stand behind the ReLU; their gradients do not know of it.
    through = passed * gate if kind.relu and (kept == "input" or kept == "half") else passed
    if kind.step == "integers":
        of_x = through * inverse(factor) if kind.smooth else divided(through, factor)
    elif kind.step == "staircase":
        of_x = through * second
    else:
        of_x = through * factor
    tl.store(of_x_ptr + at, narrowed(of_x, of_x_ptr.dtype.element_ty), mask=mask)

    of_zero_point: tl.constexpr = 1 if needs_scale else 0
    of_bounds: tl.constexpr = of_zero_point + (1 if needs_zero_point else 0)
    if needs_scale:
        of_level = level(x, integer, raw_scale, lo, hi, first_number, kind)
        if kind.step == "integers":
            terms = grad * (of_level - zero_point)
            # Sums in another order than eager's have other bits in any case.
            terms = terms - passed * (x * inverse(factor) * inverse(factor))
        else:
            terms = grad * of_level
        if clamps:
            # The ends of the clamp that the rule is the gradient of move with the scale.
            end = times_number(raw_scale, first_number, kind.compute)
            above = tl.where(x > rounded(end, kind.dtype), 1.0, 0.0).to(kind.compute)
            below = tl.where(x < -rounded(end, kind.dtype), 1.0, 0.0).to(kind.compute)
            terms = terms + grad * end * (above - below)
        store_sum(partial_ptr, terms, mask, 0, channel, chunk, channels, chunks, kind)
    if needs_zero_point:
        terms = passed - entered
        store_sum(partial_ptr, terms, mask, of_zero_point, channel, chunk, channels, chunks, kind)
    if needs_bounds:
        terms = tl.where(integer < rounded(lo, kind.dtype), entered, 0.0)
        store_sum(partial_ptr, terms, mask, of_bounds, channel, chunk, channels, chunks, kind)
        terms = tl.where(integer > rounded(hi, kind.dtype), entered, 0.0)
        store_sum(partial_ptr, terms, mask, of_bounds + 1, channel, chunk, channels, chunks, kind)
