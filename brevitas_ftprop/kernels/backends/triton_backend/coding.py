"""The code of the slopes that the compact form keeps, byte for byte as :mod:`...codes` has it."""

# The functions are Triton's, which no type checker can follow, and Triton may be missing.
# pyright: basic, reportMissingImports=false, reportInvalidTypeForm=false
# pyright: reportAttributeAccessIssue=false

import triton
import triton.language as tl

from .arithmetic import clamped, half_to_even, rounded, total


@triton.jit
def code_numbers(base, unit, lo, hi, kind: tl.constexpr):
    """Smallest total slope, and what a step of the code stands for, which stays float64."""
    low, step = tl.full((), base, tl.float64), tl.full((), unit, tl.float64)
    if kind.summed and kind.step == "integers":
        count = hi.to(tl.float64) - lo.to(tl.float64)
        low = low * count
        share = count * tl.full((), 0.00392156862745098, tl.float64)
        step = step * (count if kind.unit_counted else tl.maximum(share, 1.0))
    return low.to(kind.compute), step


@triton.jit
def store_code(pointer, slope, low, unit, at, mask, size, kind: tl.constexpr):
    if kind.bits:
        # One of the two values is 0; the elements follow one another.
        code = tl.where((slope != 0) & mask, 1, 0)
        place = tl.full((1, 8), 1, tl.int32) << tl.arange(0, 8)[None, :]
        block: tl.constexpr = kind.height * kind.width
        byte = total(tl.reshape(code, (block // 8, 8)) * place, 1)
        at_byte = tl.program_id(0).to(at.dtype) * (block // 8) + tl.arange(0, block // 8)
        tl.store(pointer + at_byte, byte.to(tl.uint8), mask=at_byte < size)
    else:
        each = (tl.full((), 1.0, tl.float64) / unit).to(slope.dtype)
        code = rounded(slope - rounded(low, kind.dtype), kind.dtype) * each
        # Roundings may lead out of the slope's range, and a byte would not tell 256 from 0.
        code = clamped(half_to_even(rounded(code, kind.dtype)), 0.0, 255.0)
        # NaN has no code; a converter's own choice would differ from device to device.
        code = tl.where(code == code, code, 0.0).to(tl.int32)
        tl.store(pointer + at, code.to(tl.uint8), mask=mask)


@triton.jit
def decoded(pointer, at, mask, low, unit, target, size, kind: tl.constexpr):
    """Total slope out of its code."""
    plane = pointer + (at // 8 if kind.bits else at)
    code = tl.load(plane, mask=mask, other=0).to(tl.int32)
    if not kind.even:
        other = tl.load(plane + size, mask=mask, other=0).to(tl.int32)
        code = tl.where(target > 0, code, other)
    if kind.bits:
        code = (code >> (at % 8).to(tl.int32)) & 1
    slope = rounded(code.to(kind.compute) * unit.to(kind.compute), kind.dtype)
    return rounded(slope + rounded(low, kind.dtype), kind.dtype)
