"""Targets by randomised local search for the output that the layer above wants most."""

import torch
from torch import Generator, Tensor

from ..specs import bounded
from .setter import Above, Targets, TargetSetter
from .setters import register_setter
from .sign import sign_target


@register_setter
class LocalSearch(TargetSetter):
    """The best of random outputs by the loss above, row by row, with weight |g|.

    The search begins at −sign(g) or at the output as it is, whichever has the smaller loss above.
    Each candidate changes the sign of some units of the best output so far, between one unit and
    half of all, those with a large gradient more readily: with probability in proportion to
    ``min(1, |g|/max|g| + 0.6)``.

    Where no gradient reaches a unit, as below a part of the network that has none, its target and
    weight are those of ``Δ = Σ_c (f_c − p_c)·δ_c / Σ_c p_c·(1 − p_c)``, an unbiased estimate of
    what its flip changes: f_c says whether candidate c of the first iteration flips it, p_c with
    which probability, δ_c is the change of the loss above. Flip where Δ < 0, weight |Δ|/(2s). (The
    best output alone would ask for flips that have nothing to do with its being best.)

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
        start = torch.where(grad == 0, h, sign_target(grad) * size)
        best, lowest = _better(h, above.losses(h), start, above.losses(start))
        chance = _chance(grad)
        moments = torch.zeros_like(h), torch.zeros_like(h)
        for iteration in range(self.iterations):
            origin, origin_loss = best, lowest
            for _ in range(self.candidates):
                flips = chance * _share(rows, h[0].numel(), generator, h)
                drawn = torch.rand(h.shape, generator=generator, device=h.device)
                flipped = drawn < flips
                candidate = torch.where(flipped, -origin, origin)
                loss = above.losses(candidate)
                if iteration == 0:
                    moments[0].add_((flipped.float() - flips) * _by_row(loss - origin_loss, h))
                    moments[1].add_(flips * (1 - flips))
                best, lowest = _better(best, lowest, candidate, loss)
        change = moments[0] / moments[1]
        ungraded = torch.where(change < 0, -h.sign(), h.sign())
        return Targets(
            torch.where(grad == 0, ungraded, best.sign()),
            torch.where(grad == 0, change.abs() / (2 * size), grad.abs()),
        )


def _by_row(values: Tensor, h: Tensor) -> Tensor:
    """A number a row, in a shape that broadcasts to the units."""
    return values.view(-1, *(1,) * (h.dim() - 1))


def _chance(grad: Tensor) -> Tensor:
    largest = _by_row(grad.abs().flatten(1).amax(1), grad)
    relative = torch.where(largest > 0, grad.abs() / largest, 1.0)
    return (relative.float() + 0.6).clamp(max=1)


def _share(rows: int, units: int, generator: Generator, h: Tensor) -> Tensor:
    """Of the units that change, for each row: uniform in its logarithm from one unit to half."""
    drawn = torch.rand(rows, generator=generator, device=h.device)
    return _by_row(0.5 * (2 / max(units, 2)) ** drawn, h)


def _better(best: Tensor, lowest: Tensor, other: Tensor, loss: Tensor) -> tuple[Tensor, Tensor]:
    wins = loss < lowest
    return torch.where(_by_row(wins, best), other, best), torch.where(wins, loss, lowest)
