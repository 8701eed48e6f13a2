"""Squared errors of the margin: one-sided, truncated, and Adaline's two-sided one."""

from typing import ClassVar

from torch import Tensor

from .indicator import at_least
from .registry import register
from .rule import Aliases, Rule
from .saturate import saturate


@register
class SquaredHinge(Rule):
    """Half the squared hinge.

    Loss ``max(0, 1 - m)²/2``, slope ``max(0, 1 - m)``; no kinks.

    >>> import torch
    >>> SquaredHinge().slope(torch.tensor([-3.0, 0.0, 1.0, 2.0]))
    tensor([4., 1., 0., 0.])

    References:
        The reference has its truncation alone; see ``truncated_squared_hinge``.
    """

    name = "squared_hinge"

    def loss(self, m: Tensor) -> Tensor:
        return saturate((1 - m).clamp(min=0).square() / 2)

    def slope(self, m: Tensor) -> Tensor:
        return (1 - m).clamp(min=0)


@register
class TruncatedSquaredHinge(Rule):
    """Half the squared hinge, with the penalty stopped at 2.

    Loss ``max(0, 1 - max(-1, m))²/2``, slope ``(1 - m)·[-1 <= m <= 1]``. Kink at -1, where the
    gradient passes; at 1 the slope is 0 from either side.

    >>> import torch
    >>> TruncatedSquaredHinge().slope(torch.tensor([-1.5, -1.0, 0.0, 1.0, 2.0]))
    tensor([0., 2., 1., 0., 0.])

    References:
        Reference name: TruncWtL2Hinge (a loss only).
    """

    name = "truncated_squared_hinge"
    aliases: ClassVar[Aliases] = {"TruncWtL2Hinge": {}}
    kinks = (-1.0,)
    slope_range = (0.0, 2.0)

    def loss(self, m: Tensor) -> Tensor:
        return (1 - m.clamp(-1, 1)).square() / 2

    def slope(self, m: Tensor) -> Tensor:
        return at_least(m, -1) * (1 - m.clamp(-1, 1))


@register
class Square(Rule):
    """Squared error on the wrong side of margin 1, twice the squared hinge.

    Loss ``max(0, 1 - m)²``, slope ``2·max(0, 1 - m)``; no kinks. As in the reference, and unlike
    what its name says, a margin above 1 costs nothing; ``adaline`` is the two-sided square.

    >>> import torch
    >>> Square().slope(torch.tensor([-3.0, 0.0, 1.0, 2.0]))
    tensor([8., 2., 0., 0.])

    References:
        Reference name: SquareLoss (a loss only).
    """

    name = "square"
    aliases: ClassVar[Aliases] = {"SquareLoss": {}}

    def loss(self, m: Tensor) -> Tensor:
        return saturate((1 - m).clamp(min=0).square())

    def slope(self, m: Tensor) -> Tensor:
        return saturate(2 * (1 - m).clamp(min=0))


@register
class TruncatedSquare(Rule):
    """One-sided squared error with the penalty stopped at 4, twice the truncated squared hinge.

    Loss ``min(4, max(0, 1 - m)²)``, slope ``2·(1 - m)·[-1 <= m <= 1]``. Kink at -1, where the
    gradient passes; at 1 the slope is 0 from either side.

    >>> import torch
    >>> TruncatedSquare().slope(torch.tensor([-1.5, -1.0, 0.0, 1.0, 2.0]))
    tensor([0., 4., 2., 0., 0.])

    References:
        Reference name: TruncSquareLoss (a loss only).
    """

    name = "truncated_square"
    aliases: ClassVar[Aliases] = {"TruncSquareLoss": {}}
    kinks = (-1.0,)
    slope_range = (0.0, 4.0)

    def loss(self, m: Tensor) -> Tensor:
        return (1 - m.clamp(-1, 1)).square()

    def slope(self, m: Tensor) -> Tensor:
        return at_least(m, -1) * (2 - 2 * m.clamp(-1, 1))


@register
class Adaline(Rule):
    """Adaline's delta rule, ``(t - z)²/2``: margins above 1 are pulled back.

    Loss ``(1 - m)²/2``, slope ``1 - m``; no kinks, negative where m > 1. With t = ±1 this is the
    reference's gradient ``|t|·(z - t)``; units without a target (t = 0) have none.

    >>> import torch
    >>> Adaline().slope(torch.tensor([-3.0, 0.0, 1.0, 2.0]))
    tensor([ 4.,  1.,  0., -1.])

    References:
        Widrow & Hoff, IRE WESCON Convention Record, 1960. Reference name: Adaline.
    """

    name = "adaline"
    aliases: ClassVar[Aliases] = {"Adaline": {}}

    def loss(self, m: Tensor) -> Tensor:
        return saturate((1 - m).square() / 2)

    def slope(self, m: Tensor) -> Tensor:
        return 1 - m
