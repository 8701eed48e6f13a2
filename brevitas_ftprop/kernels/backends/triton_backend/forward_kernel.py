"""The kernel of the forward pass.

Numbers are float64 to a kernel, which its arithmetic then rounds, and are no part of what is
compiled. Nothing here waits for the device: bounds and operands are read where they lie.
"""

# The functions are Triton's, which no type checker can follow, and Triton may be missing.
# pyright: basic, reportMissingImports=false, reportInvalidTypeForm=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import triton
import triton.language as tl

from .arithmetic import divided, narrowed, rounded, widened
from .coding import code_numbers, store_code
from .halves import half_of
from .step_functions import as_operand, level, load_integer, load_operands, output, scaled, slope_of
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
    kind: tl.constexpr,
):
    """Quantize, and write the code of the slopes or the half of the input where it is kept.

    Args:
        units, channels, inner, outer, chunks: see :mod:`.tiles`.
        kind: a :class:`.prepare.Kind`.
    """
    at, mask, channel, of_channel, _ = places(units, channels, inner, outer, chunks, kind)
    x = widened(tl.load(x_ptr + at, mask=mask, other=0.0), kind.compute)
    given = x
    if kind.relu:
        x = tl.where(x < 0, 0.0, x)
    second = tl.full((), second_number, kind.compute)
    raw_scale, scale, zero_point, lo, hi = load_operands(
        scale_ptr, zero_point_ptr, lo_ptr, hi_ptr, channel, of_channel, kind
    )
    v = scaled(x, scale, zero_point, second, kind.dtype, False, kind)
    integer = load_integer(v, rounded_ptr, at, mask, kind)
    of_level = level(x, integer, raw_scale, lo, hi, first_number, kind)
    y = output(of_level, scale, zero_point, second, kind)
    tl.store(y_ptr + at, narrowed(y, y_ptr.dtype.element_ty), mask=mask)
    if keep == "half":
        v = given
        if kind.step != "staircase":
            divisor = as_operand(scale, kind.exact, kind.quotient)
            v = rounded(divided(given, divisor), kind.quotient)
        tl.store(kept_ptr + at, half_of(v), mask=mask)
    if keep == "code":
        if kind.quick:
            v = scaled(x, scale, zero_point, second, kind.within, True, kind)
        low, unit = code_numbers(code_base, code_unit, lo, hi, kind)
        for plane in tl.static_range(1 if kind.even else 2):
            target = tl.full((), 1 - 2 * plane, kind.compute)
            of_plane = slope_of(
                x, v, integer, lo, hi, target, first_number, rule_0, rule_1, rule_2, kind
            )
            if kind.relu:
                of_plane = tl.where(given <= 0, 0.0, of_plane).to(kind.compute)
            store_code(kept_ptr + plane * code_size, of_plane, low, unit, at, mask, code_size, kind)
