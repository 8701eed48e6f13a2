"""The kernel of the forward pass.

Numbers are float64 to a kernel, which its arithmetic then rounds, and are no part of what is
compiled. Nothing here waits for the device: bounds and operands are read where they lie.
"""

# The functions are Triton's, which no type checker can follow, and Triton may be missing.
# pyright: basic, reportMissingImports=false, reportInvalidTypeForm=false
# pyright: reportGeneralTypeIssues=false

import triton
import triton.language as tl

from .arithmetic import divided, narrowed, rounded, widened
from .coding import code_numbers, store_code
from .halves import half_of
from .step_functions import as_operand, level, load_operand, output, round_by, scaled, slope_of
from .tiles import places


# Sizes are no part of what is compiled.
@triton.jit(do_not_specialize=["units", "code_size", "channels", "inner", "outer", "chunks"])
def forward_pass(
    x_ptr,
    y_ptr,
    kept_ptr,
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
    rule_0: tl.float64,
    rule_1: tl.float64,
    rule_2: tl.float64,
    code_base: tl.float64,
    code_unit: tl.float64,
    keep: tl.constexpr,
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
    smooth: tl.constexpr,
    index: tl.constexpr,
    by: tl.constexpr,
    layout: tl.constexpr,
    height: tl.constexpr,
    width: tl.constexpr,
):
    """Quantize, and write the code of the slopes or the half of the input where it is kept.

    Args:
        smooth: whether the slopes' bits may differ from eager's.
        units, channels, inner, outer, chunks, by, layout, height, width: see :mod:`.tiles`.
    """
    at, mask, channel, of_channel, _ = places(
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
    x = widened(tl.load(x_ptr + at, mask=mask, other=0.0), compute)
    given = x
    if relu:
        x = tl.where(x < 0, 0.0, x)
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
    v = scaled(x, scale, zero_point, second, step, exact, quotient, dtype, False)
    integer = v
    if step == "integers":
        if rounded_ptr is not None:
            integer = widened(tl.load(rounded_ptr + at, mask=mask, other=0.0), compute)
        else:
            integer = round_by(v, rounding)
    of_level = level(x, integer, raw_scale, lo, hi, first_number, step, dtype)
    y = output(of_level, scale, zero_point, second, step, exact, dtype)
    tl.store(y_ptr + at, narrowed(y, y_ptr.dtype.element_ty), mask=mask)
    if keep == "half":
        v = given
        if step != "staircase":
            v = rounded(divided(given, as_operand(scale, exact, quotient)), quotient)
        tl.store(kept_ptr + at, half_of(v), mask=mask)
    if keep == "code":
        within: tl.constexpr = compute if smooth else dtype
        if smooth:
            v = scaled(x, scale, zero_point, second, step, exact, quotient, within, True)
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
                within,
                smooth,
            )
            if relu:
                of_plane = tl.where(given <= 0, 0.0, of_plane).to(compute)
            store_code(
                kept_ptr + plane * code_size,
                of_plane,
                low,
                unit,
                at,
                mask,
                code_size,
                bits,
                height * width,
                dtype,
            )
