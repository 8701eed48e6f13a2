"""Which elements of a tensor a program of a kernel has.

Tiles have two dimensions where operands vary, so that a program knows its channels without a
division for each element.
"""

# The functions are Triton's, which no type checker can follow, and Triton may be missing.
# pyright: basic, reportMissingImports=false, reportInvalidTypeForm=false
# pyright: reportAttributeAccessIssue=false

import triton
import triton.language as tl


@triton.jit
def places(units, channels, inner, outer, chunks, kind: tl.constexpr):
    """Where the elements of this program are.

    Args:
        units: length of what lies in a row, all elements, a run of one channel's or the channels,
            in units of the kind's ``by``: that it is a multiple of it lets a compiler load wide.
        channels, inner, outer: sizes of the tensor, as in :class:`.prepare.Channels`.
        chunks: how many programs there are for each channel, or group of neighbouring channels.
        kind: of the kernel, a :class:`.prepare.Kind`.

    Returns:
        places in memory, whether there is such an element, its channel, whether there is such a
        channel, and the program's number among those of the channel.
    """
    program = tl.program_id(0).to(kind.index)
    length = units.to(kind.index) * kind.by
    channels, inner, outer = channels.to(kind.index), inner.to(kind.index), outer.to(kind.index)
    chunks = chunks.to(kind.index)
    if kind.layout == "flat":
        at = program * (kind.height * kind.width) + tl.arange(0, kind.height * kind.width)
        mask = at < length
        chunk = program
        channel = at
        if kind.scale_varies or kind.zero_point_varies:
            channel = at // inner % channels
        of_channel = mask
    elif kind.layout == "rows":
        channel = program // chunks
        chunk = program % chunks
        across = (length + kind.width - 1) // kind.width
        row = chunk // across * kind.height + tl.arange(0, kind.height)[:, None]
        column = chunk % across * kind.width + tl.arange(0, kind.width)[None, :]
        mask = (row < outer) & (column < length)
        at = (row * channels + channel) * length + column
        of_channel = channel < channels
    else:
        chunk = program % chunks
        row = chunk * kind.height + tl.arange(0, kind.height)[:, None]
        channel = program // chunks * kind.width + tl.arange(0, kind.width)[None, :]
        of_channel = channel < length
        mask = (row < outer) & of_channel
        at = row * length + channel
    return at, mask, channel, of_channel, chunk
