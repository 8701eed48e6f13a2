"""Targets that flip a unit where the loss above falls by it, computed exactly."""

from torch import Generator, Tensor

from ..specs import bounded
from .secant import secant_targets
from .setter import Above, Targets, TargetSetter
from .setters import register_setter


@register_setter
class ExactFlip(TargetSetter):
    """The target of each unit is what the loss above wants of it alone.

    The target is −sign(h) where flipping the unit lowers the loss above, Δ < 0, and sign(h) where
    it raises it, with weight |Δ|/(2s): |g| where the layer above and its losses are straight. Units
    beyond the share keep −sign(g) and |g|.

    Args:
        share: of each layer's units, over the whole batch, those with the largest |g|; in [0, 1],
            and 0 leaves all targets at −sign(g). Time grows with it: the loss above is evaluated
            once for every product of the layer.
        memory: MiB that the temporaries of one chunk of flips may take.

    References:
        For sign units in fully connected layers,
        ``Δ_i = Σ_j |g_j|·[l(t_j(z_j − 2w_ji·h_i)) − l(t_j·z_j)]``.
    """

    name = "exact_flip"
    share: float = bounded(0.0, 1.0, default=1.0)
    memory: float = bounded(0.0, float("inf"), default=16.0)

    @property
    def is_default(self) -> bool:
        return self.share == 0

    def choose(self, h: Tensor, grad: Tensor, above: Above, generator: Generator) -> Targets:
        count = round(self.share * grad.numel())
        units = grad.abs().flatten().topk(count, sorted=False).indices
        # Neighbours read the same numbers, which are then in a processor's cache.
        units = units.sort().values
        change = above.flip_changes(h, units, memory=int(self.memory * 2**20))
        secant = grad.to(change.dtype).flatten().clone()
        secant[units] = change / (-2 * h.flatten()[units])
        return secant_targets(secant.view(grad.shape))
