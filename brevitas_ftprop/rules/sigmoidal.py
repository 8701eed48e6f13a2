"""Losses shaped like a sigmoid, whose slope is a smooth bump around 0."""

from typing import ClassVar

import torch
from torch import Tensor

from ..specs import positive
from .registry import register
from .rule import Aliases, Rule
from .saturate import saturate

# Smallest slope of SwishSign in units of β, at β·m = ±3.436; found by evaluating it in float64.
SWISH_SIGN_MINIMUM = -0.07382875


def sigmoid_derivative(m: Tensor, steepness: float = 1.0) -> Tensor:
    """Derivative of the logistic sigmoid at ``v = k·m``, ``sech²(v/2)/4``, exactly even and never
    overflowing.

    Its relative error stays at a few roundings in the tails, where ``1 - tanh²`` loses all
    digits.

    Args:
        m: any shape and float dtype.
        steepness: the k, positive.

    >>> sigmoid_derivative(torch.tensor([-1e38, 0.0, 20.0]))
    tensor([0.0000e+00, 2.5000e-01, 2.0612e-09])
    """
    decay = m.abs().mul_(-steepness).exp_()
    return decay / (1 + decay).square()


@register
class Sigmoid(Rule):
    """Sigmoid loss.

    Loss ``y/(1 + exp(x·m))``, slope ``x·y·sech²(x·m/2)/4``; no kinks. ``Sigmoid2_2`` has the
    slope of the soft hinge.

    Args:
        x_scale: the x, in [0.01, 100].
        y_scale: the y, in [0.01, 100].

    >>> import torch
    >>> Sigmoid().slope(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([0.2100, 0.5000, 0.2100])

    References:
        Reference names: Sigmoid (x = 2, y = 1), Sigmoid2_2, Sigmoid3_2 (x, y).
    """

    name = "sigmoid"
    aliases: ClassVar[Aliases] = {
        "Sigmoid": {},
        "Sigmoid2_2": {"x_scale": 2.0, "y_scale": 2.0},
        "Sigmoid3_2": {"x_scale": 3.0, "y_scale": 2.0},
    }
    even = True
    x_scale: float = positive(default=2.0)
    y_scale: float = positive(default=1.0)

    @property
    def slope_range(self) -> tuple[float, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (0.0, self.x_scale * self.y_scale / 4)

    def loss(self, m: Tensor) -> Tensor:
        return self.y_scale * torch.sigmoid(-self.x_scale * m)

    def slope(self, m: Tensor) -> Tensor:
        return sigmoid_derivative(m, self.x_scale).mul_(self.x_scale * self.y_scale)


@register
class SoftHinge(Rule):
    """Soft hinge, the paper's loss: a hinge truncated smoothly at both ends.

    Loss ``1 - tanh(x·m)``, slope ``x·sech²(x·m)``; no kinks.

    Args:
        x_scale: the x, in [0.01, 100].

    >>> import torch
    >>> SoftHinge().slope(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([0.4200, 1.0000, 0.4200])

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573. Reference names: SoftHinge,
        SoftHinge2 (x = 2; a loss only).
    """

    name = "soft_hinge"
    aliases: ClassVar[Aliases] = {"SoftHinge": {}, "SoftHinge2": {"x_scale": 2.0}}
    even = True
    x_scale: float = positive(default=1.0)

    @property
    def slope_range(self) -> tuple[float, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (0.0, self.x_scale)

    def loss(self, m: Tensor) -> Tensor:
        # 1 - tanh(v) = 2σ(-2v), which keeps its digits in the tail; on CPUs torch computes it in a
        # sixth of the time.
        return 2 * torch.sigmoid(-2 * self.x_scale * m)

    def slope(self, m: Tensor) -> Tensor:
        return sigmoid_derivative(m, 2 * self.x_scale).mul_(4 * self.x_scale)

    def curvature(self, m: Tensor) -> Tensor:
        # 2x²·tanh(v)·sech²(v), where σ = σ(2v), tanh = 2σ - 1 and sech² = 4σ(1 - σ)
        sigmoid = torch.sigmoid(2 * self.x_scale * m)
        bump = torch.addcmul(sigmoid, sigmoid, sigmoid, value=-1)
        return sigmoid.mul_(2).sub_(1).mul_(bump).mul_(8 * self.x_scale**2)


@register
class LecunTanh(Rule):
    """Soft hinge with the scales of LeCun's scaled tanh, as the reference writes them.

    Loss ``1 - y·tanh(x·m)``, slope ``x·y·sech²(x·m)``; no kinks. As in the reference the 1 is not
    scaled, so the loss falls to 1 - y < 0, and y is 1.7519, where LeCun et al. have 1.7159.

    Args:
        x_scale: the x, in [0.01, 100].
        y_scale: the y, in [0.01, 100].

    >>> import torch
    >>> LecunTanh().slope(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([0.7713, 1.1679, 0.7713])

    References:
        LeCun, Bottou, Orr & Müller, Efficient BackProp, 1998, section 4.4. Reference name:
        LeCunTanh.
    """

    name = "lecun_tanh"
    aliases: ClassVar[Aliases] = {"LeCunTanh": {}}
    even = True
    x_scale: float = positive(default=2 / 3)
    y_scale: float = positive(default=1.7519)

    @property
    def slope_range(self) -> tuple[float, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (0.0, self.x_scale * self.y_scale)

    def loss(self, m: Tensor) -> Tensor:
        return 1 - self.y_scale * torch.tanh(self.x_scale * m)

    def slope(self, m: Tensor) -> Tensor:
        return sigmoid_derivative(m, 2 * self.x_scale).mul_(4 * self.x_scale * self.y_scale)


@register
class SwishSign(Rule):
    """SwishSign of BNN+: a bump that turns negative beyond it, so that far units are pushed back.

    Loss ``2σ(-v) - 2v·σ(v)·σ(-v)``, slope ``β(2 - v·tanh(v/2))/(1 + cosh v)``, v = β·m; no kinks.

    Args:
        beta: the β, in [0.01, 100].

    >>> import torch
    >>> SwishSign().slope(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.1950,  5.0000, -0.1950])

    References:
        Darabi et al., BNN+, arXiv:1812.11800; the β of 5 is Larq's (``larq.quantizers.SwishSign``).
    """

    name = "swish_sign"
    even = True
    beta: float = positive(default=5.0)

    @property
    def slope_range(self) -> tuple[float, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (SWISH_SIGN_MINIMUM * self.beta, self.beta)

    def loss(self, m: Tensor) -> Tensor:
        v = saturate(self.beta * m)
        return 2 * (torch.sigmoid(-v) - v * sigmoid_derivative(v))

    def slope(self, m: Tensor) -> Tensor:
        # Beyond the dtype's range the bump is 0, which an infinite v would turn into NaN.
        v = saturate(self.beta * m)
        return 2 * self.beta * sigmoid_derivative(v) * (2 - v * torch.tanh(v / 2))
