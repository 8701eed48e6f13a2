"""Straight-through estimators: the gradient passes as it is, everywhere or in a band."""

from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor

from ..specs import positive
from .registry import register
from .rule import Aliases, Rule


@register
class Ste(Rule):
    """Straight-through estimator: the gradient passes everywhere.

    Loss ``-m``, slope ``1``; no kinks.

    >>> import torch
    >>> Ste().slope(torch.tensor([-100.0, 0.0, 100.0]))
    tensor([1., 1., 1.])

    References:
        Bengio, Leonard & Courville, arXiv:1308.3432. Reference name: STE.
    """

    name = "ste"
    aliases: ClassVar[Aliases] = {"STE": {}}
    even = True
    slope_range = (1.0, 1.0)
    two_valued = True

    def loss(self, m: Tensor) -> Tensor:
        return -m

    def slope(self, m: Tensor) -> Tensor:
        return torch.ones_like(m)


@register
class SaturatedSte(Rule):
    """Saturated straight-through estimator: the gradient passes where ``|z|`` is at most a width.

    Loss ``min(2a, max(0, a - m))``, slope ``[|m| <= a]``. Kinks at -a and a, where the gradient
    passes. The width of ``SSTEv2``, √12/2 = √3, is that of the uniform distribution with
    variance 1.

    Args:
        width: the a, in [0.01, 100].

    >>> import torch
    >>> SaturatedSte().slope(torch.tensor([-1.5, -1.0, 0.0, 1.0, 1.5]))
    tensor([0., 1., 1., 1., 0.])

    References:
        Hubara et al., NeurIPS 2016, arXiv:1602.02830. Reference names: SSTE, SSTEv2.
    """

    name = "saturated_ste"
    aliases: ClassVar[Aliases] = {"SSTE": {}, "SSTEv2": {"width": sqrt(12) / 2}}
    even = True
    slope_range = (0.0, 1.0)
    two_valued = True
    width: float = positive(default=1.0)

    @property
    def kinks(self) -> tuple[float, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (-self.width, self.width)

    @property
    def clamp_width(self) -> float | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.width

    def loss(self, m: Tensor) -> Tensor:
        return (self.width - m).clamp(0, 2 * self.width)

    def slope(self, m: Tensor) -> Tensor:
        return m.abs().le_(self.width)
