"""Targets that flip a unit where the loss above falls by it, to second order."""

import torch
from torch import Generator, Tensor

from .secant import secant_targets
from .setter import Above, Targets, TargetSetter
from .setters import register_setter


@register_setter
class Curvature(TargetSetter):
    """The target of each unit is what the loss above, to second order, wants of it alone.

    Flipping the output h = ±s changes the loss above by ``Δ = −2hg + 2s²·Σ_j L″_j·(∂z_j/∂h)²``. The
    target is −sign(h) where Δ < 0 and sign(h) elsewhere, with weight |Δ|/(2s): |g| where the layer
    losses above are straight. One product with squared weights a layer. Batch norms count as
    fixed maps, with the statistics that they had.

    >>> import torch
    >>> class Above:
    ...     def curvature(self, h):
    ...         return torch.tensor([0.0, 1.0])
    >>> h, grad = torch.tensor([1.0, 1.0]), torch.tensor([0.5, 0.5])
    >>> Curvature().choose(h, grad, Above(), None)
    Targets(target=tensor([-1.,  1.]), weight=tensor([0.5000, 0.5000]))

    References:
        The formula for sign units in fully connected layers is
        ``Δ_i ≈ −2h_i·g_i + 2Σ_j |g_j|·l''(t_j·z_j)·w_ji²``.
    """

    name = "curvature"

    def choose(self, h: Tensor, grad: Tensor, above: Above, generator: Generator) -> Targets:
        bend = above.curvature(h)
        return secant_targets(torch.addcmul(grad.to(bend.dtype), bend, h.to(bend.dtype), value=-1))
