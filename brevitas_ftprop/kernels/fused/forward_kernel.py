"""The kernel of the forward pass.

Numbers are float64 to a kernel, which its arithmetic then rounds, and are no part of what is
compiled. Nothing here waits for the device: bounds and operands are read where they lie.
"""

# The functions are Triton's, which no type checker can follow, and Triton may be missing.
# pyright: basic, reportMissingImports=false, reportInvalidTypeForm=false

import triton
import triton.language as tl

from .arithmetic import narrowed, widened
from .coding import code_numbers, store_code
from .steps import level, load_operand, output, round_by, scaled, slope_of


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
    relu: tl.constexpr,
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
    x = widened(tl.load(x_ptr + at, mask=mask, other=0.0), compute)
    blocked = x <= 0
    if relu:
        x = tl.where(x < 0, 0.0, x)
    first, second = tl.full((), first_number, compute), tl.full((), second_number, compute)
    raw_scale, scale, zero_point, lo, hi = first, first, first, first, first
    if step != "staircase":
        raw_scale = load_operand(scale_ptr, channel, mask, scale_varies)
        scale = widened(raw_scale, compute)
    if step == "integers":
        zero_point = widened(
            load_operand(zero_point_ptr, channel, mask, zero_point_varies), compute
        )
        lo, hi = widened(tl.load(lo_ptr), compute), widened(tl.load(hi_ptr), compute)
    v = scaled(x, scale, zero_point, second, step, exact, quotient, dtype)
    integer = v
    if step == "integers":
        if rounded_ptr is not None:
            integer = widened(tl.load(rounded_ptr + at, mask=mask, other=0.0), compute)
        else:
            integer = round_by(v, rounding)
    of_level = level(x, integer, raw_scale, lo, hi, first_number, step, dtype)
    y = output(of_level, scale, zero_point, second, step, exact, dtype)
    tl.store(y_ptr + at, narrowed(y, y_ptr.dtype.element_ty), mask=mask)
    if code_ptr is not None:
        p0, p1, p2 = (
            tl.full((), rule_0, compute),
            tl.full((), rule_1, compute),
            tl.full((), rule_2, compute),
        )
        low, unit = code_numbers(
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
            if relu:
                of_plane = tl.where(blocked, 0.0, of_plane).to(compute)
            store_code(
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
