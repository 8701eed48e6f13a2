"""Estimators that start near the identity and approach the sign function in the course of training.

Each has a parameter ``progress``, the share of training that is done, which ``at`` sets;
:func:`brevitas_ftprop.advance_rules` does so for all quantizers of a model.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from ..specs import bounded, positive
from .registry import register
from .rule import Rule
from .sigmoidal import sigmoid_derivative

# Where ReSTE's power is cut off: below INNER its slope would grow without bound.
INNER, OUTER = 0.1, 1.5


@register
class Ede(Rule):
    """Error decay estimator of IR-Net: from nearly the identity to a narrow bump.

    Loss ``k(1 - tanh(t·m))``, slope ``k·t·sech²(t·m), t = a^(1-p)·b^p, k = max(1, 1/t)``; no
    kinks. The height k·t is 1 until t has reached 1.

    Args:
        t_start: the a, t at the start of training, in [0.01, 100].
        t_end: the b, t at its end, in [0.01, 100].
        progress: the p, share of the training that is done, in [0, 1].

    >>> import torch
    >>> m = torch.tensor([-1.0, 0.0, 1.0])
    >>> for progress in (0, 0.5, 1):
    ...     Ede().at(progress).slope(m)
    tensor([0.9901, 1.0000, 0.9901])
    tensor([0.4200, 1.0000, 0.4200])
    tensor([8.2446e-08, 1.0000e+01, 8.2446e-08])

    References:
        Qin et al., Forward and Backward Information Retention for Accurate Binary Neural Networks,
        CVPR 2020, arXiv:1909.10788, section 3.3.
    """

    name = "ede"
    even = True
    t_start: float = positive(default=0.1)
    t_end: float = positive(default=10.0)
    progress: float = bounded(0.0, 1.0, default=0.0)

    @property
    def t(self) -> float:
        """Steepness at this point of training."""
        return self.t_start ** (1 - self.progress) * self.t_end**self.progress

    @property
    def k(self) -> float:
        """Height of the estimator, which keeps its slope at 0 from falling below 1."""
        return max(1.0, 1 / self.t)

    @property
    def slope_range(self) -> tuple[float, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (0.0, self.k * self.t)

    def at(self, progress: float) -> "Ede":
        return replace(self, progress=progress)

    def loss(self, m: Tensor) -> Tensor:
        return self.k * (1 - torch.tanh(self.t * m))

    def slope(self, m: Tensor) -> Tensor:
        return sigmoid_derivative(m, 2 * self.t).mul_(4 * self.k * self.t)


@register
class Reste(Rule):
    """ReSTE: the derivative of sign(m)·|m|^(1/o), from the saturated STE (o = 1) to larger powers.

    Loss ``F(1.5) - F(m)``, where F(m) = sign(m)·|m|^(1/o) is made a straight line on |m| ≤ 0.1 and
    constant beyond 1.5. Slope
    ``|m|^(1/o-1)/o; 0.1^(1/o-1) where |m| <= 0.1; 0 where |m| > 1.5; o = 1+(e-1)(1-cos(πp/2))``.
    Kinks at ±0.1 (unless o = 1) and at ±1.5; the slope there is that of the inner side.

    Args:
        o_end: the e, the power's o at the end of training, in [1, 100].
        progress: the p, share of the training that is done, in [0, 1].

    >>> import torch
    >>> m = torch.tensor([0.0, 0.1, 0.125, 1.0, 1.6])
    >>> Reste().slope(m)
    tensor([1., 1., 1., 1., 0.])
    >>> Reste(progress=1).slope(m)
    tensor([4.6416, 4.6416, 1.3333, 0.3333, 0.0000])

    References:
        Wu et al., Estimator Meets Equilibrium Perspective, ICCV 2023, arXiv:2308.06689; the
        truncations and the course of o are those of its implementation.
    """

    name = "reste"
    even = True
    o_end: float = bounded(1.0, 100.0, default=3.0)
    progress: float = bounded(0.0, 1.0, default=0.0)

    @property
    def power(self) -> float:
        """1/o at this point of training."""
        return 1 / (1 + (self.o_end - 1) * (1 - math.cos(math.pi / 2 * self.progress)))

    @property
    def kinks(self) -> tuple[float, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        if self.power == 1:
            return (-OUTER, OUTER)
        return (-OUTER, -INNER, INNER, OUTER)

    @property
    def slope_range(self) -> tuple[float, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (0.0, INNER ** (self.power - 1))

    def at(self, progress: float) -> "Reste":
        return replace(self, progress=progress)

    def loss(self, m: Tensor) -> Tensor:
        c = m.clamp(-OUTER, OUTER)
        curve = torch.sign(c) * c.abs().clamp(min=INNER) ** self.power
        line = c * INNER ** (self.power - 1)
        return OUTER**self.power - torch.where(c.abs() <= INNER, line, curve)

    def slope(self, m: Tensor) -> Tensor:
        distance = m.abs()
        curve = self.power * distance.clamp(INNER, OUTER) ** (self.power - 1)
        slope = torch.where(distance <= INNER, INNER ** (self.power - 1), curve)
        return torch.where(distance <= OUTER, slope, 0.0)
