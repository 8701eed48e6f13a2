"""The kernels: a forward pass, a backward pass with partial sums, and what adds those up.

Numbers are float64 to a kernel, which its arithmetic then rounds, and are no part of what is
compiled. Nothing here waits for the device: bounds and operands are read where they lie.
"""

# The functions are Triton's, which no type checker can follow, and Triton may be missing.
# pyright: basic, reportMissingImports=false, reportInvalidTypeForm=false

import triton
import triton.language as tl

from .arithmetic import clamped, divided, half_to_even, rounded, sign, total
from .steps import as_operand, level, output, round_by, scaled, slope_of, times_number

__all__ = ["add_up", "backward_pass", "forward_pass"]


@triton.jit
def _operand(pointer, channel, mask, varies: tl.constexpr):
    """An operand of every element, or the one of all."""
    if varies:
        value = tl.load(pointer + channel, mask=mask, other=1.0)
    else:
        value = tl.load(pointer)
    return value


@triton.jit
def _number(number, compute: tl.constexpr):
    return tl.full((), number, compute)


@triton.jit
def _code_numbers(base, unit, lo, hi, counted: tl.constexpr, unit_counted: tl.constexpr, like):
    """Smallest total slope and what a step of the code stands for, as eager's float64 has them."""
    low, step = tl.full((), base, tl.float64), tl.full((), unit, tl.float64)
    if counted:
        count = hi.to(tl.float64) - lo.to(tl.float64)
        low = low * count
        if unit_counted:
            step = step * count
    return low.to(like), step.to(like)


@triton.jit
def _store_code(
    pointer,
    slope,
    low,
    unit,
    at,
    mask,
    program,
    size,
    bits: tl.constexpr,
    block: tl.constexpr,
    dtype: tl.constexpr,
):
    if bits:
        code = tl.where((slope > low) & mask, 1, 0)
        place = tl.full((1, 8), 1, tl.int32) << tl.arange(0, 8)[None, :]
        byte = total(tl.reshape(code, (block // 8, 8)) * place, 1)
        at_byte = program * (block // 8) + tl.arange(0, block // 8)
        tl.store(pointer + at_byte, byte.to(tl.uint8), mask=at_byte < size)
    else:
        code = divided(rounded(slope - rounded(low, dtype), dtype), unit)
        # Roundings may lead out of the slope's range, and a byte would not tell 256 from 0.
        code = clamped(half_to_even(rounded(code, dtype)), 0.0, 255.0)
        # NaN has no code; a converter's own choice would differ from device to device.
        code = tl.where(code == code, code, 0.0).to(tl.int32)
        tl.store(pointer + at, code.to(tl.uint8), mask=mask)


@triton.jit
def forward_pass(
    x_ptr,
    y_ptr,
    code_ptr,
    scale_ptr,
    zero_point_ptr,
    lo_ptr,
    hi_ptr,
    rounded_ptr,
    elements: tl.int64,
    code_size: tl.int64,
    channels: tl.int64,
    inner: tl.int64,
    first_number: tl.float64,
    second_number: tl.float64,
    rule_0: tl.float64,
    rule_1: tl.float64,
    rule_2: tl.float64,
    code_base: tl.float64,
    code_unit: tl.float64,
    step: tl.constexpr,
    rounding: tl.constexpr,
    summed: tl.constexpr,
    slope: tl.constexpr,
    even: tl.constexpr,
    clips: tl.constexpr,
    passes_inside: tl.constexpr,
    scale_varies: tl.constexpr,
    zero_point_varies: tl.constexpr,
    exact: tl.constexpr,
    on_cpu: tl.constexpr,
    bits: tl.constexpr,
    unit_counted: tl.constexpr,
    quotient: tl.constexpr,
    dtype: tl.constexpr,
    compute: tl.constexpr,
    index: tl.constexpr,
    block: tl.constexpr,
):
    """Quantize, and where there is a place for it write the code of the slopes."""
    program = tl.program_id(0).to(index)
    elements, code_size = elements.to(index), code_size.to(index)
    channels, inner = channels.to(index), inner.to(index)
    at = program * block + tl.arange(0, block)
    mask = at < elements
    channel = at
    if scale_varies or zero_point_varies:
        channel = at // inner % channels
    x = tl.load(x_ptr + at, mask=mask, other=0.0).to(compute)
    first, second = _number(first_number, compute), _number(second_number, compute)
    raw_scale, scale, zero_point, lo, hi = first, first, first, first, first
    if step != "staircase":
        raw_scale = _operand(scale_ptr, channel, mask, scale_varies)
        scale = raw_scale.to(compute)
    if step == "integers":
        zero_point = _operand(zero_point_ptr, channel, mask, zero_point_varies).to(compute)
        lo, hi = tl.load(lo_ptr).to(compute), tl.load(hi_ptr).to(compute)
    v = scaled(x, scale, zero_point, second, step, exact, quotient, dtype)
    integer = v
    if step == "integers":
        if rounded_ptr is not None:
            integer = tl.load(rounded_ptr + at, mask=mask, other=0.0).to(compute)
        else:
            integer = round_by(v, rounding)
    of_level = level(x, integer, raw_scale, lo, hi, first_number, step, dtype)
    y = output(of_level, scale, zero_point, second, step, exact, dtype)
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=mask)
    if code_ptr is not None:
        p0, p1, p2 = _number(rule_0, compute), _number(rule_1, compute), _number(rule_2, compute)
        low, unit = _code_numbers(
            code_base, code_unit, lo, hi, summed and step == "integers", unit_counted, compute
        )
        for plane in tl.static_range(1 if even else 2):
            target = tl.full((), 1 - 2 * plane, compute)
            of_plane = slope_of(
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
                dtype,
            )
            _store_code(
                code_ptr + plane * code_size,
                of_plane,
                low,
                unit,
                at,
                mask,
                program,
                code_size,
                bits,
                block,
                dtype,
            )


@triton.jit
def _decoded(
    pointer,
    at,
    mask,
    low,
    unit,
    target,
    size,
    even: tl.constexpr,
    bits: tl.constexpr,
    compute: tl.constexpr,
    dtype: tl.constexpr,
):
    """Total slope out of its code."""
    plane = pointer + (at // 8 if bits else at)
    code = tl.load(plane, mask=mask, other=0).to(tl.int32)
    if not even:
        other = tl.load(plane + size, mask=mask, other=0).to(tl.int32)
        code = tl.where(target > 0, code, other)
    if bits:
        code = (code >> (at % 8).to(tl.int32)) & 1
    return rounded(rounded(code.to(compute) * unit, dtype) + rounded(low, dtype), dtype)


@triton.jit
def _store_sum(
    pointer, terms, mask, kind, channel, chunk, channels, chunks, layout: tl.constexpr, wide
):
    """Sum of a program's terms, for each channel that it has terms of."""
    terms = tl.where(mask, terms, 0.0).to(pointer.dtype.element_ty)
    if layout == "flat":
        tl.store(pointer + kind * wide + chunk, total(terms, 0))
    elif layout == "rows":
        at = kind * wide + channel * chunks + chunk
        tl.store(pointer + at, total(total(terms, 1), 0))
    else:
        at = kind * wide + channel * chunks + chunk
        tl.store(pointer + at, total(terms, 0)[None, :], mask=channel < channels)


@triton.jit
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
    elements: tl.int64,
    code_size: tl.int64,
    channels: tl.int64,
    inner: tl.int64,
    outer: tl.int64,
    chunks: tl.int64,
    first_number: tl.float64,
    second_number: tl.float64,
    batch_size: tl.float64,
    rule_0: tl.float64,
    rule_1: tl.float64,
    rule_2: tl.float64,
    code_base: tl.float64,
    code_unit: tl.float64,
    step: tl.constexpr,
    rounding: tl.constexpr,
    summed: tl.constexpr,
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
    index: tl.constexpr,
    layout: tl.constexpr,
    height: tl.constexpr,
    width: tl.constexpr,
):
    """Gradient of the input, and partial sums of those of the operands.

    A program has ``height · width`` elements. In the layout ``"flat"`` they follow one another;
    in ``"rows"`` they are of one channel, in ``height`` runs of ``width`` elements; in
    ``"columns"``, where neighbours are of different channels, of ``width`` channels.
    """
    program = tl.program_id(0).to(index)
    elements, code_size, chunks = elements.to(index), code_size.to(index), chunks.to(index)
    channels, inner, outer = channels.to(index), inner.to(index), outer.to(index)
    if layout == "flat":
        at = program * (height * width) + tl.arange(0, height * width)
        mask = at < elements
        chunk = program
        channel = at
        if scale_varies or zero_point_varies:
            channel = at // inner % channels
        of_channel = mask
    elif layout == "rows":
        channel = program // chunks
        chunk = program % chunks
        across = (inner + width - 1) // width
        row = chunk // across * height + tl.arange(0, height)[:, None]
        column = chunk % across * width + tl.arange(0, width)[None, :]
        mask = (row < outer) & (column < inner)
        at = (row * channels + channel) * inner + column
        of_channel = channel < channels
    else:
        chunk = program % chunks
        row = chunk * height + tl.arange(0, height)[:, None]
        channel = program // chunks * width + tl.arange(0, width)[None, :]
        of_channel = channel < channels
        mask = (row < outer) & of_channel
        at = row * channels + channel
    grad = tl.load(grad_ptr + at, mask=mask, other=0.0).to(compute)
    first, second = _number(first_number, compute), _number(second_number, compute)
    raw_scale, scale, zero_point, lo, hi = first, first, first, first, first
    if step != "staircase":
        raw_scale = _operand(scale_ptr, channel, of_channel, scale_varies)
        scale = raw_scale.to(compute)
    if step == "integers":
        zero_point = _operand(zero_point_ptr, channel, of_channel, zero_point_varies).to(compute)
        lo, hi = tl.load(lo_ptr).to(compute), tl.load(hi_ptr).to(compute)
    factor = as_operand(scale, exact, dtype)
    entered = grad
    if step == "integers":
        entered = rounded(grad * factor, dtype)
    target = -sign(entered)

    x = tl.full(grad.shape, 0.0, compute)
    if kept == "input":
        x = tl.load(kept_ptr + at, mask=mask, other=0.0).to(compute)
    v = scaled(x, scale, zero_point, second, step, exact, quotient, dtype)
    integer = v
    if step == "integers":
        if rounded_ptr is not None:
            integer = tl.load(rounded_ptr + at, mask=mask, other=0.0).to(compute)
        else:
            integer = round_by(v, rounding)
    if kept == "code":
        low, unit = _code_numbers(
            code_base, code_unit, lo, hi, summed and step == "integers", unit_counted, compute
        )
        of_unit = _decoded(
            kept_ptr, at, mask, low, unit, target, code_size, even, bits, compute, dtype
        )
    else:
        p0, p1, p2 = _number(rule_0, compute), _number(rule_1, compute), _number(rule_2, compute)
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
            dtype,
        )

    weighted = entered
    if mean:
        weighted = rounded(divided(sign(entered), _number(batch_size, compute)), dtype)
        if step == "integers":
            weighted = rounded(weighted * factor, dtype)
    passed = rounded(of_unit * weighted, dtype)
    if step == "integers":
        of_x = divided(passed, factor)
    elif step == "staircase":
        of_x = passed * second
    else:
        of_x = passed * factor
    tl.store(of_x_ptr + at, rounded(of_x, dtype).to(of_x_ptr.dtype.element_ty), mask=mask)

    wide = channels * chunks
    if needs_scale:
        of_level = level(x, integer, raw_scale, lo, hi, first_number, step, dtype)
        if step == "integers":
            terms = grad * (of_level - zero_point)
            terms = terms - passed * divided(divided(x, factor), factor)
        else:
            terms = grad * of_level
        if clamps:
            # The ends of the clamp that the rule is the gradient of move with the scale.
            end = times_number(raw_scale, first_number, compute)
            above = tl.where(x > rounded(end, dtype), 1.0, 0.0).to(compute)
            below = tl.where(x < -rounded(end, dtype), 1.0, 0.0).to(compute)
            terms = terms + grad * end * (above - below)
        _store_sum(partial_ptr, terms, mask, 0, channel, chunk, channels, chunks, layout, wide)
    if needs_zero_point:
        terms = passed - entered
        _store_sum(partial_ptr, terms, mask, 1, channel, chunk, channels, chunks, layout, wide)
    if needs_bounds:
        terms = tl.where(integer < rounded(lo, dtype), entered, 0.0)
        _store_sum(partial_ptr, terms, mask, 2, channel, chunk, channels, chunks, layout, wide)
        terms = tl.where(integer > rounded(hi, dtype), entered, 0.0)
        _store_sum(partial_ptr, terms, mask, 3, channel, chunk, channels, chunks, layout, wide)


@triton.jit
def _add_up_one(
    partial_ptr, sum_ptr, kind, channel, channels, chunks, varies: tl.constexpr, block: tl.constexpr
):
    wide = channels * chunks
    if varies:
        start, count = kind * wide + channel * chunks, chunks
    else:
        # The first program does it alone.
        start, count = kind * wide, tl.where(channel > 0, 0, wide)
    sums = tl.full((block,), 0.0, partial_ptr.dtype.element_ty)
    for offset in range(0, count, block):
        at = offset + tl.arange(0, block)
        sums += tl.load(partial_ptr + start + at, mask=at < count, other=0.0)
    result = rounded(total(sums, 0), sum_ptr.dtype.element_ty).to(sum_ptr.dtype.element_ty)
    if varies:
        tl.store(sum_ptr + channel, result)
    else:
        tl.store(sum_ptr, result, mask=channel == 0)


@triton.jit
def add_up(
    partial_ptr,
    scale_ptr,
    zero_point_ptr,
    lo_ptr,
    hi_ptr,
    channels: tl.int64,
    chunks: tl.int64,
    scale_varies: tl.constexpr,
    zero_point_varies: tl.constexpr,
    block: tl.constexpr,
):
    """Add up the partial sums of those operands whose gradient has a place."""
    channel = tl.program_id(0).to(tl.int64)
    channels, chunks = channels.to(tl.int64), chunks.to(tl.int64)
    if scale_ptr is not None:
        _add_up_one(partial_ptr, scale_ptr, 0, channel, channels, chunks, scale_varies, block)
    if zero_point_ptr is not None:
        _add_up_one(
            partial_ptr, zero_point_ptr, 1, channel, channels, chunks, zero_point_varies, block
        )
    if lo_ptr is not None:
        _add_up_one(partial_ptr, lo_ptr, 2, channel, channels, chunks, False, block)
    if hi_ptr is not None:
        _add_up_one(partial_ptr, hi_ptr, 3, channel, channels, chunks, False, block)
