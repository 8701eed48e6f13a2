"""The logistic loss, its truncation, and the logarithm of the sigmoid loss."""

from math import e, log
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..specs import positive
from .indicator import at_least
from .registry import register
from .rule import Aliases, Rule
from .saturate import saturate


@register
class Logistic(Rule):
    """Logistic loss.

    Loss ``log(1 + exp(-m))``, slope ``1/(1 + exp(m))``; no kinks.

    >>> import torch
    >>> Logistic().slope(torch.tensor([-2.0, 0.0, 2.0]))
    tensor([0.8808, 0.5000, 0.1192])

    References:
        Reference name: LogLoss (a loss only).
    """

    name = "logistic"
    aliases: ClassVar[Aliases] = {"LogLoss": {}}
    slope_range = (0.0, 1.0)

    def loss(self, m: Tensor) -> Tensor:
        return -logsigmoid(m)

    def slope(self, m: Tensor) -> Tensor:
        return torch.sigmoid(-m)


@register
class TruncatedLogistic(Rule):
    """Logistic loss with the penalty stopped at 2.

    Loss ``min(2, log(1 + exp(-m)))``, slope ``[m >= k]/(1 + exp(m))``. Kink at
    k = -log(e² - 1) = -1.854, where the gradient passes.

    >>> import torch
    >>> TruncatedLogistic().slope(torch.tensor([-2.0, 0.0]))
    tensor([0.0000, 0.5000])

    References:
        Reference name: TruncLogLoss (a loss only).
    """

    name = "truncated_logistic"
    aliases: ClassVar[Aliases] = {"TruncLogLoss": {}}
    kinks = (-log(e**2 - 1),)
    slope_range = (0.0, 1.0)

    def loss(self, m: Tensor) -> Tensor:
        return (-logsigmoid(m)).clamp(max=2)

    def slope(self, m: Tensor) -> Tensor:
        return at_least(m, self.kinks[0]) * torch.sigmoid(-m)


@register
class LogSigmoid(Rule):
    """Logarithm of the sigmoid loss; concave, so it presses most on units that are right already.

    Loss ``log(1/(1 + exp(x·m)))``, which falls without bound, slope ``x/(1 + exp(-x·m))``; no
    kinks. The logistic loss presses on the other side. A factor on the sigmoid would only add
    a constant to the loss.

    Args:
        x_scale: the x, in [0.01, 100].

    >>> import torch
    >>> LogSigmoid().slope(torch.tensor([-100.0, 0.0, 100.0]))
    tensor([0., 1., 2.])

    References:
        Reference name: LogSigmoid (x = 2; a loss only).
    """

    name = "log_sigmoid"
    aliases: ClassVar[Aliases] = {"LogSigmoid": {}}
    x_scale: float = positive(default=2.0)

    @property
    def slope_range(self) -> tuple[float, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (0.0, self.x_scale)

    def loss(self, m: Tensor) -> Tensor:
        return saturate(logsigmoid(-self.x_scale * m))

    def slope(self, m: Tensor) -> Tensor:
        return self.x_scale * torch.sigmoid(self.x_scale * m)
