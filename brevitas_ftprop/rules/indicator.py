"""Where a margin lies, as a number: comparisons that stay in the margin's dtype.

A comparison in place is several times as fast on a CPU as one that makes a bool tensor and
converts it.
"""

from torch import Tensor


def at_most(m: Tensor, high: float) -> Tensor:
    """1 where ``m <= high``, else 0 (NaN included), in the dtype of ``m``.

    >>> import torch
    >>> at_most(torch.tensor([0.5, 1.0, 1.5]), 1.0)
    tensor([1., 1., 0.])
    """
    return m.clone().le_(high)


def at_least(m: Tensor, low: float) -> Tensor:
    """1 where ``m >= low``, else 0 (NaN included), in the dtype of ``m``.

    >>> import torch
    >>> at_least(torch.tensor([0.5, 1.0, 1.5]), 1.0)
    tensor([0., 1., 1.])
    """
    return m.clone().ge_(low)


def between(m: Tensor, low: float, high: float) -> Tensor:
    """1 where ``low <= m <= high``, else 0 (NaN included), in the dtype of ``m``.

    >>> import torch
    >>> between(torch.tensor([-1.5, -1.0, 1.0, 1.5]), -1.0, 1.0)
    tensor([0., 1., 1., 0.])
    """
    return m.clamp(low, high).eq_(m)
