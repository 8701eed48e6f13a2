"""The logarithm of the truncated hinge, which presses least on the units that are most wrong."""

from math import e
from typing import ClassVar

from torch import Tensor

from .indicator import between
from .registry import register
from .rule import Aliases, Rule


@register
class LogHinge(Rule):
    """Logarithm of 1 plus the truncated hinge.

    Loss ``log(2 - min(1, max(-1, m)))``, slope ``[-1 <= m <= 1]/(2 - m)``. Kinks at -1 and 1,
    where the gradient passes. As in the reference the loss is truncated at both ends, although
    its name does not say so.

    >>> import torch
    >>> LogHinge().slope(torch.tensor([-1.5, -1.0, 0.0, 1.0, 1.5]))
    tensor([0.0000, 0.3333, 0.5000, 1.0000, 0.0000])

    References:
        Reference name: LogWtHinge (a loss only).
    """

    name = "log_hinge"
    aliases: ClassVar[Aliases] = {"LogWtHinge": {}}
    kinks = (-1.0, 1.0)
    slope_range = (0.0, 1.0)

    def loss(self, m: Tensor) -> Tensor:
        return (2 - m.clamp(-1, 1)).log()

    def slope(self, m: Tensor) -> Tensor:
        return between(m, -1, 1) / (2 - m.clamp(-1, 1))


@register
class TruncatedLogHinge(Rule):
    """Twice the logarithmic hinge, with the penalty stopped at 2.

    Loss ``min(2, 2·log(2 - min(1, max(-1, m))))``, slope ``2·[2 - e <= m <= 1]/(2 - m)``. Kinks
    at 2 - e = -0.718 and 1, where the gradient passes. The reference states factor and limit
    but passes the limit to a function that does not take one, so it cannot be called there.

    >>> import torch
    >>> TruncatedLogHinge().slope(torch.tensor([-1.0, -0.5, 0.0, 1.0, 1.5]))
    tensor([0.0000, 0.8000, 1.0000, 2.0000, 0.0000])

    References:
        Reference name: TruncLogWtHinge (a loss only).
    """

    name = "truncated_log_hinge"
    aliases: ClassVar[Aliases] = {"TruncLogWtHinge": {}}
    kinks = (2 - e, 1.0)
    slope_range = (0.0, 2.0)

    def loss(self, m: Tensor) -> Tensor:
        return 2 * (2 - m.clamp(*self.kinks)).log()

    def slope(self, m: Tensor) -> Tensor:
        lower, upper = self.kinks
        return 2 * between(m, lower, upper) / (2 - m.clamp(lower, upper))
