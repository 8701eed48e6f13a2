"""Memory layouts: kernels take elements as they lie in memory, whatever the shape."""

import torch
from torch import Tensor

__all__ = ["flat", "in_format", "memory_format"]


def memory_format(x: Tensor) -> torch.memory_format:
    """The memory format that a tensor has, or should have where it has none.

    >>> memory_format(torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last))
    torch.channels_last
    >>> memory_format(torch.zeros(3, 2).T)
    torch.contiguous_format
    """
    if not x.is_contiguous():
        if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
            return torch.channels_last
        if x.dim() == 5 and x.is_contiguous(memory_format=torch.channels_last_3d):
            return torch.channels_last_3d
    return torch.contiguous_format


def in_format(x: Tensor, form: torch.memory_format) -> Tensor:
    """``x`` in a memory format; itself where it is so already."""
    return x.contiguous(memory_format=form)


def flat(x: Tensor) -> Tensor:
    """The elements of a tensor in one of torch's memory formats as they lie in memory."""
    return x.as_strided((x.numel(),), (1,))
