"""Targets by randomised local search for the output that the layer above wants most."""

import torch
from torch import Generator, Tensor

from ..specs import bounded
from .setter import Above, Targets, TargetSetter
from .setters import register_setter
from .sign import sign_target

__all__ = ["LocalSearch"]


@register_setter
class LocalSearch(TargetSetter):
    """The best of random outputs by the loss above, row by row, with weight |g|.

    The search begins at −sign(g) or at the output as it is, whichever has the smaller loss above.
    Each candidate changes the sign of some units of the best output so far, between one unit and
    half of all, those with a large gradient more readily: with probability in proportion to
    ``min(1, |g|/max|g| + 0.6)``. Where no gradient reaches a unit, as below a part of the network
    that has none, it begins as it is, and weighs its share of what the changes gain.

    Args:
        candidates: that are tried in each iteration; 0 leaves the targets at −sign(g).
        iterations: each from the best of the one before; 0 likewise.

    References:
        The search of Nabergall, Toth and Cousins (openreview rkeX-3Rqtm), whose candidates do not
        depend on the pre-activation either.
    """

    name = "local_search"
    candidates: int = bounded(0, 1e6, default=64)
    iterations: int = bounded(0, 1e6, default=1)

    @property
    def is_default(self) -> bool:
        return self.candidates == 0 or self.iterations == 0

    def choose(self, h: Tensor, grad: Tensor, above: Above, generator: Generator) -> Targets:
        size, rows = h.abs(), len(h)
        stay = above.losses(h)
        start = torch.where(grad == 0, h, sign_target(grad) * size)
        best, lowest = h, stay
        best, lowest = _better(best, lowest, start, above.losses(start))
        chance = _chance(grad)
        for _ in range(self.iterations):
            origin = best
            for _ in range(self.candidates):
                share = _share(rows, h[0].numel(), generator, h)
                drawn = torch.rand(h.shape, generator=generator, device=h.device)
                candidate = torch.where(drawn < chance * share, -origin, origin)
                best, lowest = _better(best, lowest, candidate, above.losses(candidate))
        return _targets(h, grad, best, (stay - lowest).clamp(min=0))


def _chance(grad: Tensor) -> Tensor:
    largest = grad.abs().flatten(1).amax(1).view(-1, *(1,) * (grad.dim() - 1))
    relative = torch.where(largest > 0, grad.abs() / largest, 1.0)
    return (relative.float() + 0.6).clamp(max=1)


def _share(rows: int, units: int, generator: Generator, h: Tensor) -> Tensor:
    """Of the units that change, for each row: uniform in its logarithm from one unit to half."""
    drawn = torch.rand(rows, generator=generator, device=h.device)
    return (0.5 * (2 / max(units, 2)) ** drawn).view(-1, *(1,) * (h.dim() - 1))


def _better(best: Tensor, lowest: Tensor, other: Tensor, loss: Tensor) -> tuple[Tensor, Tensor]:
    wins = loss < lowest
    rows = wins.view(-1, *(1,) * (best.dim() - 1))
    return torch.where(rows, other, best), torch.where(wins, loss, lowest)


def _targets(h: Tensor, grad: Tensor, best: Tensor, gain: Tensor) -> Targets:
    changed = (best != h).flatten(1).sum(1).clamp(min=1)
    share = (gain / changed).view(-1, *(1,) * (h.dim() - 1)).to(grad.dtype) / (2 * h.abs())
    ungraded = torch.where(best != h, share, torch.zeros_like(share))
    return Targets(best.sign(), torch.where(grad == 0, ungraded, grad.abs()))
