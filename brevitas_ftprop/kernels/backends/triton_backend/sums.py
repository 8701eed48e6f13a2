"""The gradients of operands, which are sums: a part in each program, added up by another kernel.

The parts lie where the kernel that adds them up finds them, for each operand, channel and program;
that the order is always the same is what makes a training run repeatable.
"""

# The functions are Triton's, which no type checker can follow, and Triton may be missing.
# pyright: basic, reportMissingImports=false, reportInvalidTypeForm=false
# pyright: reportAssignmentType=false, reportAttributeAccessIssue=false

import triton
import triton.language as tl

from .arithmetic import narrowed, total


@triton.jit
def store_sum(pointer, terms, mask, plane, channel, chunk, channels, chunks, kind: tl.constexpr):
    """Sum of a program's terms, for each channel that it has terms of, in a plane of its own."""
    start = channels.to(tl.int64) * chunks * plane
    terms = tl.where(mask, terms, 0.0).to(pointer.dtype.element_ty)
    if kind.layout == "flat":
        tl.store(pointer + start + chunk, total(terms, 0))
    elif kind.layout == "rows":
        at = start + channel.to(tl.int64) * chunks + chunk
        tl.store(pointer + at, total(total(terms, 1), 0))
    else:
        at = start + channel.to(tl.int64) * chunks + chunk
        tl.store(pointer + at, total(terms, 0)[None, :], mask=channel < channels)


@triton.jit
def _add_up_one(
    partial_ptr,
    sum_ptr,
    plane,
    channel,
    channels,
    chunks,
    varies: tl.constexpr,
    block: tl.constexpr,
):
    wide = channels * chunks
    if varies:
        start, count = plane * wide + channel * chunks, chunks
    else:
        # The first program does it alone.
        start, count = plane * wide, tl.where(channel > 0, 0, wide)
    sums = tl.full((block,), 0.0, partial_ptr.dtype.element_ty)
    for offset in range(0, count, block):
        at = offset + tl.arange(0, block)
        sums += tl.load(partial_ptr + start + at, mask=at < count, other=0.0)
    result = narrowed(total(sums, 0), sum_ptr.dtype.element_ty)
    if varies:
        tl.store(sum_ptr + channel, result)
    else:
        tl.store(sum_ptr, result, mask=channel == 0)


# Sizes are no part of what is compiled.
@triton.jit(do_not_specialize=["channels", "chunks"])
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
    """Add up the partial sums of those operands whose gradient has a place, plane by plane."""
    channel = tl.program_id(0).to(tl.int64)
    channels, chunks = channels.to(tl.int64), chunks.to(tl.int64)
    of_zero_point: tl.constexpr = 0 if scale_ptr is None else 1
    of_bounds: tl.constexpr = of_zero_point + (0 if zero_point_ptr is None else 1)
    if scale_ptr is not None:
        _add_up_one(partial_ptr, scale_ptr, 0, channel, channels, chunks, scale_varies, block)
    if zero_point_ptr is not None:
        _add_up_one(
            partial_ptr,
            zero_point_ptr,
            of_zero_point,
            channel,
            channels,
            chunks,
            zero_point_varies,
            block,
        )
    if lo_ptr is not None:
        _add_up_one(partial_ptr, lo_ptr, of_bounds, channel, channels, chunks, False, block)
        _add_up_one(partial_ptr, hi_ptr, of_bounds + 1, channel, channels, chunks, False, block)
