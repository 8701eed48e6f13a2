"""Slopes made of straight lines: the ramp and ApproxSign."""

from typing import ClassVar

from torch import Tensor

from .registry import register
from .rule import Aliases, Rule


@register
class Ramp(Rule):
    """Saturated STE with its edges ramped down: full up to 1, then falling linearly to 0 at 2.

    Slope ``min(1, max(0, 2 - |m|))``; no kinks, since the slope is continuous. Loss, its
    integral: with c = min(2, max(-2, m)), ``3/2 - c + max(0, c - 1)²/2 - max(0, -1 - c)²/2``.

    >>> import torch
    >>> Ramp().slope(torch.tensor([-2.5, -1.5, 0.0, 1.0, 1.5]))
    tensor([0.0000, 0.5000, 1.0000, 1.0000, 0.5000])

    References:
        Reference name: Ramp (a backward pass only; the loss is ours).
    """

    name = "ramp"
    aliases: ClassVar[Aliases] = {"Ramp": {}}
    even = True
    slope_range = (0.0, 1.0)

    def loss(self, m: Tensor) -> Tensor:
        c = m.clamp(-2, 2)
        right = (c - 1).clamp(min=0).square()
        left = (-1 - c).clamp(min=0).square()
        return 1.5 - c + (right - left) / 2

    def slope(self, m: Tensor) -> Tensor:
        return (2 - m.abs()).clamp_(0, 1)


@register
class ApproxSign(Rule):
    """Triangle of Bi-Real Net: the derivative of a piecewise quadratic approximation of sign.

    Slope ``max(0, 2 - 2|m|)``; no kinks, since the slope is continuous. Loss, its integral: with
    c = min(1, max(-1, m)), ``1 - 2c + c·|c|``.

    >>> import torch
    >>> ApproxSign().slope(torch.tensor([-1.5, -0.5, 0.0, 0.25, 1.0]))
    tensor([0.0000, 1.0000, 2.0000, 1.5000, 0.0000])

    References:
        Liu et al., Bi-Real Net, ECCV 2018, arXiv:1808.00278, section 3.3.
    """

    name = "approx_sign"
    even = True
    slope_range = (0.0, 2.0)

    def loss(self, m: Tensor) -> Tensor:
        c = m.clamp(-1, 1)
        return 1 - 2 * c + c * c.abs()

    def slope(self, m: Tensor) -> Tensor:
        return (1 - m.abs()).clamp_(min=0).mul_(2)
