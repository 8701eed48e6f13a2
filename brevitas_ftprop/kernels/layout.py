"""Memory layouts: kernels take elements as they lie in memory, whatever the shape.

The layout of a tensor is its strides, where its elements fill a piece of memory without gaps, as
they do in any order of its dimensions.
"""

import torch
from torch import Tensor

Layout = tuple[int, ...]


def layout_of(x: Tensor) -> Layout:
    """The layout that torch's elementwise operations give to what they make of a tensor: its own
    where it has one, else one with its dimensions in the same order.

    >>> layout_of(torch.zeros(2, 3, 4).transpose(1, 2))
    (12, 1, 4)
    >>> layout_of(torch.zeros(3, 8).T[::2])
    (1, 4)
    """
    if x.is_contiguous():
        return x.stride()
    return torch.empty_like(x, device="meta").stride()


def in_layout(x: Tensor, layout: Layout) -> Tensor:
    """``x`` in a layout; itself where its elements lie so already.

    >>> in_layout(torch.zeros(2, 3), (1, 2)).stride()
    (1, 2)
    """
    strides = zip(x.shape, x.stride(), layout, strict=True)
    if all(size == 1 or own == wanted for size, own, wanted in strides):
        return x
    return torch.empty_strided(x.shape, layout, dtype=x.dtype, device=x.device).copy_(x)


def flat(x: Tensor) -> Tensor:
    """The elements of a tensor that has a layout as they lie in memory."""
    return x.as_strided((x.numel(),), (1,))
