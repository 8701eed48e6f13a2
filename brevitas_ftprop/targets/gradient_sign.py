"""Targets of the gradient alone, with its size as weight or with equal weights."""

from torch import Generator, Tensor

from .setter import Above, Targets, TargetSetter
from .setters import register_setter
from .sign import sign_target, weighted_sign


@register_setter
class GradientSign(TargetSetter):
    """``t = −sign(g)`` with weight |g|: FTPROP-MB, and what backward passes do without a setter.

    >>> import torch
    >>> GradientSign().choose(None, torch.tensor([2.0, -0.5]), None, None).followed
    tensor([ 2.0000, -0.5000])

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573, section 3.2.
    """

    name = "gradient_sign"

    @property
    def is_default(self) -> bool:
        return True

    def choose(self, h: Tensor, grad: Tensor, above: Above, generator: Generator) -> Targets:
        return Targets(sign_target(grad), grad.abs())


@register_setter
class Uniform(TargetSetter):
    """``t = −sign(g)`` with the same weight 1/N for all units, N the batch's length.

    What a quantizer's own ``weighting="mean"`` computes.

    >>> import torch
    >>> Uniform().choose(None, torch.tensor([2.0, -0.5]), None, None).followed
    tensor([ 0.5000, -0.5000])

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573, section 3.2 ("loss weighting").
    """

    name = "uniform"

    def choose(self, h: Tensor, grad: Tensor, above: Above, generator: Generator) -> Targets:
        return Targets(sign_target(grad), weighted_sign(grad, "mean", len(grad)).abs())
