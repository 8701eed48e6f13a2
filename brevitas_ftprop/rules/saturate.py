"""Keeping what a dtype cannot hold finite."""

import torch
from torch import Tensor


def saturate(values: Tensor) -> Tensor:
    """Replace infinities by the largest finite value of the dtype, with their sign; NaN stays.

    >>> saturate(torch.tensor([1.0, float("inf")], dtype=torch.float16))
    tensor([1.0000e+00, 6.5504e+04], dtype=torch.float16)
    """
    largest = torch.finfo(values.dtype).max
    return values.clamp(-largest, largest)
