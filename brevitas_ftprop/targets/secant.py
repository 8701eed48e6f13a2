"""Targets from the loss above at either output of a unit."""

from torch import Tensor

from .setter import Targets
from .sign import sign_target


def secant_targets(secant: Tensor) -> Targets:
    """Targets that follow ``Δ/(−2h)`` in place of the gradient, Δ the change if h = ±s flips.

    That is target −sign(h) where Δ < 0, sign(h) where Δ > 0, and 0 where a flip changes nothing,
    with weight |Δ|/(2s).

    Args:
        secant: ``Δ/(−2h)``, slope of the loss above between both outputs of a unit.

    >>> import torch
    >>> secant_targets(torch.tensor([-2.0, 0.0]))
    Targets(target=tensor([1., -0.]), weight=tensor([2., 0.]))
    """
    return Targets(sign_target(secant), secant.abs())
