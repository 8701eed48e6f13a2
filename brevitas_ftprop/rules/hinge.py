"""The hinge loss and its truncation."""

from typing import ClassVar

from torch import Tensor

from ..specs import positive
from .indicator import at_most, between
from .registry import register
from .rule import Aliases, Rule


@register
class Hinge(Rule):
    """Hinge loss: the gradient passes until the unit is right by a margin of 1.

    Loss ``max(0, 1 - m)``, slope ``[m <= 1]``. Kink at 1, where the gradient passes.

    >>> import torch
    >>> Hinge().slope(torch.tensor([-9.0, 0.0, 1.0, 1.5]))
    tensor([1., 1., 1., 0.])

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573. Reference name: WtHinge, whose
        backward pass there is unreachable.
    """

    name = "hinge"
    aliases: ClassVar[Aliases] = {"WtHinge": {}}
    kinks = (1.0,)
    slope_range = (0.0, 1.0)
    two_valued = True

    def loss(self, m: Tensor) -> Tensor:
        return (1 - m).clamp(min=0)

    def slope(self, m: Tensor) -> Tensor:
        return at_most(m, 1)


@register
class TruncatedHinge(Rule):
    """Hinge whose penalty stops growing at 2; with scale 1, on sign, the saturated STE.

    Loss ``min(2, max(0, c·(1 - m)))``, slope ``c·[1 - 2/c <= m <= 1]``. Kinks at 1 - 2/c and 1,
    where the gradient passes (the reference's backward pass leaves out the lower end). The slope
    is even if c = 1. ``TruncWtHinge11`` subtracts 1 from the loss, which changes no gradient, so
    it is the same rule here.

    Args:
        scale: the c, in [0.01, 100].

    >>> import torch
    >>> TruncatedHinge().slope(torch.tensor([-1.5, -1.0, 0.0, 1.0, 1.5]))
    tensor([0., 1., 1., 1., 0.])

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573. Reference names: TruncWtHinge,
        TruncWtHinge2 (c = 2), TruncWtHinge11.
    """

    name = "truncated_hinge"
    aliases: ClassVar[Aliases] = {
        "TruncWtHinge": {},
        "TruncWtHinge2": {"scale": 2.0},
        "TruncWtHinge11": {},
    }
    two_valued = True
    scale: float = positive(default=1.0)

    @property
    def slope_range(self) -> tuple[float, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (0.0, self.scale)

    @property
    def even(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.scale == 1

    @property
    def kinks(self) -> tuple[float, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (1 - 2 / self.scale, 1.0)

    @property
    def clamp_width(self) -> float | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 1.0 if self.scale == 1 else None

    def loss(self, m: Tensor) -> Tensor:
        return ((1 - m) * self.scale).clamp(0, 2)

    def slope(self, m: Tensor) -> Tensor:
        lower, upper = self.kinks
        return between(m, lower, upper) * self.scale
