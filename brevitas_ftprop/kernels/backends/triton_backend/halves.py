"""Inputs in 16 bits, rounded to odd, bit for bit as :mod:`...saved_forms` has them."""

# The functions are Triton's, which no type checker can follow, and Triton may be missing.
# pyright: basic, reportMissingImports=false, reportInvalidTypeForm=false

import triton
import triton.language as tl

from .arithmetic import clamped


@triton.jit
def half_of(v):
    """Half of a scaled input, as an integer."""
    v = clamped(v, -65504.0, 65504.0)
    if v.dtype == tl.float64:
        beyond = tl.full((), 4398046511103, tl.int64)
    else:
        beyond = tl.full((), 8191, tl.int32)
    bits = v.to(beyond.dtype, bitcast=True)
    # The sum carries into the last bit that stays, unless all bits beyond are 0.
    bits = (bits | ((bits & beyond) + beyond)) & ~beyond
    odd = bits.to(v.dtype, bitcast=True)
    half = odd.to(tl.float32).to(tl.float16).to(tl.int16, bitcast=True)
    # What is too small for a half is no zero for that: the smallest number has the next integer.
    least = (half & -32768) + tl.where(v == 0, 0, 1)
    return tl.maximum(half.to(tl.int32), least.to(tl.int32)).to(tl.int16)


@triton.jit
def scaled_input(half, compute: tl.constexpr):
    """What a half stands for, in units of the scale."""
    return half.to(tl.float16, bitcast=True).to(tl.float32).to(compute)
