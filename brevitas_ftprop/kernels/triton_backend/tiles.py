"""Which elements of a tensor a program of a kernel has.

Tiles have two dimensions where operands vary, so that a program knows its channels without a
division for each element.
"""

# The functions are Triton's, which no type checker can follow, and Triton may be missing.
# pyright: basic, reportMissingImports=false, reportInvalidTypeForm=false

import triton
import triton.language as tl


@triton.jit
def places(
    units,
    channels,
    inner,
    outer,
    chunks,
    by: tl.constexpr,
    varies: tl.constexpr,
    layout: tl.constexpr,
    height: tl.constexpr,
    width: tl.constexpr,
    index: tl.constexpr,
):
    """Where the elements of this program are.

    Args:
        units: length of what lies in a row, all elements, a run of one channel's or the channels,
            in units of ``by``: that it is a multiple of it lets a compiler load wide.
        channels, inner, outer: sizes of the tensor, as in :class:`.prepare.Channels`.
        chunks: how many programs there are for each channel, or group of neighbouring channels.
        varies: whether the channel is asked for.
        layout: a program's ``height · width`` elements are, in ``"flat"``, following one another;
            in ``"rows"`` of one channel, ``height`` runs of ``width``; in ``"columns"``, where
            neighbours are of different channels, of ``width`` channels.

    Returns:
        places in memory, whether there is such an element, its channel, whether there is such a
        channel, and the program's number among those of the channel.
    """
    program = tl.program_id(0).to(index)
    length = units.to(index) * by
    channels, inner, outer = channels.to(index), inner.to(index), outer.to(index)
    chunks = chunks.to(index)
    if layout == "flat":
        at = program * (height * width) + tl.arange(0, height * width)
        mask = at < length
        chunk = program
        channel = at
        if varies:
            channel = at // inner % channels
        of_channel = mask
    elif layout == "rows":
        channel = program // chunks
        chunk = program % chunks
        across = (length + width - 1) // width
        row = chunk // across * height + tl.arange(0, height)[:, None]
        column = chunk % across * width + tl.arange(0, width)[None, :]
        mask = (row < outer) & (column < length)
        at = (row * channels + channel) * length + column
        of_channel = channel < channels
    else:
        chunk = program % chunks
        row = chunk * height + tl.arange(0, height)[:, None]
        channel = program // chunks * width + tl.arange(0, width)[None, :]
        of_channel = channel < length
        mask = (row < outer) & of_channel
        at = row * length + channel
    return at, mask, channel, of_channel, chunk
