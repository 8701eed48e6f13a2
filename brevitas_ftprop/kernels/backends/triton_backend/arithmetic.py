"""Arithmetic of the kernels that has to equal torch's to the bit, NaN and infinities included.

Values are float32, or float64 where torch computes in it. Where torch computes in a narrower dtype
it rounds the result of every operation; :func:`rounded` does so here.
"""

# The functions are Triton's, which no type checker can follow, and Triton may be missing.
# pyright: basic, reportMissingImports=false

import triton
import triton.language as tl


@triton.jit
def half_to_even(v):
    """``v`` rounded to an integer, ties to the even one; keeps the sign of zero."""
    # From this number on all are integers, so that adding it rounds what is smaller.
    integers = 4503599627370496.0 if v.dtype == tl.float64 else 8388608.0
    size = tl.abs(v)
    nearest = (size + integers) - integers
    signed = tl.where(v < 0, -nearest, nearest)
    # A sum of zeros has lost the sign; a product has not.
    signed = tl.where(nearest == 0, v * 0.0, signed)
    return tl.where(size < integers, signed, v)


INTERPRETED = tl.constexpr(not isinstance(half_to_even, triton.JITFunction))


@triton.jit
def divided(a, b):
    """Correctly rounded ``a/b``: a device's own float32 division is not."""
    if a.dtype == tl.float64:
        result = a / b
    elif INTERPRETED:
        result = tl.math.div_rn(a, b)
    else:
        # What Triton made of its own function before version 3.6 takes denormal numbers for 0.
        result = tl.inline_asm_elementwise(
            "div.rn.f32 $0, $1, $2;", "=f,f,f", [a, b], dtype=tl.float32, is_pure=True, pack=1
        )
    return result


@triton.jit
def widened(v, compute: tl.constexpr):
    """What was loaded, in the dtype that is computed in."""
    if INTERPRETED and v.dtype == tl.bfloat16:
        # The interpreter's own conversion loses denormal numbers.
        bits = v.to(tl.int16, bitcast=True).to(tl.int32) << 16
        result = bits.to(tl.float32, bitcast=True).to(compute)
    else:
        result = v.to(compute)
    return result


@triton.jit
def narrowed(v, dtype: tl.constexpr):
    """``v`` in a dtype that is to be stored."""
    if INTERPRETED and dtype == tl.bfloat16:
        bits = rounded(v, dtype).to(tl.float32).to(tl.int32, bitcast=True) >> 16
        result = bits.to(tl.int16).to(tl.bfloat16, bitcast=True)
    else:
        result = rounded(v, dtype).to(dtype)
    return result


@triton.jit
def rounded(v, dtype: tl.constexpr):
    """``v`` as a dtype holds it, in the dtype that ``v`` has."""
    if dtype == tl.bfloat16:
        narrow = v.to(tl.float32)
        if INTERPRETED:
            # The interpreter cuts the digits off that a device rounds, half to even.
            bits = narrow.to(tl.int32, bitcast=True)
            even = (bits + 0x7FFF + ((bits >> 16) & 1)) & -65536
            nearest = even.to(tl.float32, bitcast=True)
            result = tl.where(narrow == narrow, nearest, narrow).to(v.dtype)
        else:
            result = narrow.to(tl.bfloat16).to(v.dtype)
    elif dtype == tl.float16:
        result = v.to(tl.float32).to(tl.float16).to(v.dtype)
    else:
        result = v.to(dtype).to(v.dtype)
    return result


@triton.jit
def clamped(v, low, high):
    """``v`` between two bounds; NaN stays, which a device's minimum would replace."""
    above = tl.where(v < low, low, v)
    return tl.where(above > high, high, above)


@triton.jit
def saturated(v, dtype: tl.constexpr):
    """``v`` with infinities replaced by the largest finite value of a dtype; NaN stays."""
    if dtype == tl.float64:
        result = clamped(v, -1.7976931348623157e308, 1.7976931348623157e308)
    elif dtype == tl.float32:
        result = clamped(v, -3.4028234663852886e38, 3.4028234663852886e38)
    elif dtype == tl.bfloat16:
        result = clamped(v, -3.3895313892515355e38, 3.3895313892515355e38)
    else:
        result = clamped(v, -65504.0, 65504.0)
    return result


@triton.jit
def above_one(v, dtype: tl.constexpr):
    """``|v|``, but at least the smallest number above 1 that a dtype holds; NaN stays."""
    size = tl.abs(v)
    # Written out, since the interpreter makes float32 of what is assigned.
    if dtype == tl.float64:
        result = tl.where(size <= 1, tl.full((), 1.0000000000000002, v.dtype), size)
    elif dtype == tl.float32:
        result = tl.where(size <= 1, tl.full((), 1.00000011920928955078125, v.dtype), size)
    elif dtype == tl.bfloat16:
        result = tl.where(size <= 1, tl.full((), 1.0078125, v.dtype), size)
    else:
        result = tl.where(size <= 1, tl.full((), 1.0009765625, v.dtype), size)
    return result


@triton.jit
def sign(v):
    """-1, 0 or 1; 0 for NaN, as torch has it."""
    positive = tl.where(v > 0, 1.0, 0.0).to(v.dtype)
    negative = tl.where(v < 0, 1.0, 0.0).to(v.dtype)
    return positive - negative


@triton.jit
def upwards(v):
    """The ceiling of ``v``, -0 included; Triton's own takes a denormal number for 0."""
    nearest = half_to_even(v)
    up = tl.where(nearest < v, nearest + 1, nearest)
    return tl.where(up == 0, v * 0.0, up)


@triton.jit
def downwards(v):
    """The floor of ``v``, -0 included."""
    return -upwards(-v)


@triton.jit
def inverse(v):
    """``1/v``, finite for the smallest numbers too: their 0-fold is to stay 0."""
    return saturated(divided(tl.full((), 1.0, v.dtype), v), v.dtype)


@triton.jit
def total(terms, axis: tl.constexpr):
    """Sum along an axis, in an order that is the same each time."""
    # tl.sum itself cannot be interpreted where Triton was imported before it was told to.
    return tl.reduce(terms, axis, tl.standard._sum_combine)
