"""The perceptron criterion and its truncation."""

from typing import ClassVar

from torch import Tensor

from .indicator import at_most, between
from .registry import register
from .rule import Aliases, Rule


@register
class Perceptron(Rule):
    """Perceptron criterion, a hinge of margin 0: the gradient passes where the unit is wrong.

    Loss ``max(0, -m)``, slope ``[m <= 0]``. Kink at 0, where the gradient passes.

    >>> import torch
    >>> Perceptron().slope(torch.tensor([-2.0, 0.0, 0.1]))
    tensor([1., 1., 0.])

    References:
        Rosenblatt, Psychological Review 65(6), 1958. Reference name: WeightedPerceptron.
    """

    name = "perceptron"
    aliases: ClassVar[Aliases] = {"WeightedPerceptron": {}}
    kinks = (0.0,)
    slope_range = (0.0, 1.0)
    two_valued = True

    def loss(self, m: Tensor) -> Tensor:
        return (-m).clamp(min=0)

    def slope(self, m: Tensor) -> Tensor:
        return at_most(m, 0)


@register
class TruncatedPerceptron(Rule):
    """Perceptron criterion whose penalty stops growing at 1.

    Loss ``min(1, max(0, -m))``, slope ``[-1 <= m <= 0]``. Kinks at -1 and 0, where the gradient
    passes.

    >>> import torch
    >>> TruncatedPerceptron().slope(torch.tensor([-1.5, -1.0, 0.0, 0.1]))
    tensor([0., 1., 1., 0.])

    References:
        Reference name: TruncWtPerceptron (a loss only).
    """

    name = "truncated_perceptron"
    aliases: ClassVar[Aliases] = {"TruncWtPerceptron": {}}
    kinks = (-1.0, 0.0)
    slope_range = (0.0, 1.0)
    two_valued = True

    def loss(self, m: Tensor) -> Tensor:
        return (-m).clamp(0, 1)

    def slope(self, m: Tensor) -> Tensor:
        return between(m, -1, 0)
