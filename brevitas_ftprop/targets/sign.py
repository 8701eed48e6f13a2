"""Targets from the sign of the incoming gradient (FTPROP-MB)."""

import torch
from torch import Tensor

WEIGHTINGS = ("grad", "mean")


def check_weighting(weighting: str) -> str:
    """Return ``weighting`` if it names a loss weighting.

    Raises:
        ValueError: if it is neither ``"grad"`` (weight |g|) nor ``"mean"`` (weight 1/N).

    >>> check_weighting("grad")
    'grad'
    """
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, not {weighting!r}")
    return weighting


def sign_target(grad: Tensor) -> Tensor:
    """Target of each unit, ``t = -sign(g)``; 0 (the unit is ignored) where the gradient is 0.

    Args:
        grad: gradient of the loss with respect to the unit's output, any shape.

    >>> sign_target(torch.tensor([2.0, -0.5, 0.0]))
    tensor([-1.,  1., -0.])

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573, section 3.2.
    """
    return -torch.sign(grad)


def weighted_sign(grad: Tensor, weighting: str, batch_size: int) -> Tensor:
    """``-w·t``, the sign of the gradient times the weight of the unit's loss.

    With ``"grad"`` the weight is |g|, so the result is ``g`` itself; with ``"mean"`` it is
    1/N, N being the batch size. It takes the place of the gradient of the
    quantizer's output, so that what a quantizer makes of that gradient (a binary one multiplies it
    by its scale, an integer one does not) holds for both. It does not follow the scale of the loss.

    >>> weighted_sign(torch.tensor([2.0, -0.5]), "mean", batch_size=2)
    tensor([ 0.5000, -0.5000])

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573, section 3.2 ("loss weighting").
    """
    if weighting == "grad":
        return grad
    return torch.sign(grad) / max(batch_size, 1)
