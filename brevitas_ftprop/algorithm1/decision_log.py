"""What the algorithm decided, one record each time that it set targets."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Decision"]


@dataclass
class Decision:
    """Targets were set for units of a layer, and what came of it.

    Attributes:
        layer: whose units got targets, counted from 1 at the inputs.
        heuristic: ``"carve"``, ``"copy"``, ``"residual"``, ``"reachable"`` or ``"enclose"``.
        units: which of them, counted from 0.
        budget_left: how many times targets could be set after this one.
        reached: how many of the units gave their targets on every row, once FTPROP had tried.
        loss_before, loss_after: of the layer above, optimised on what this layer gave before and
            gives now.
        wrong: rows that the layer above gets wrong now.
        kept: whether the layers stay as they are now, or went back to what they were before.

    The last five are None in a decision that an interrupt cut short.
    """

    layer: int
    heuristic: str
    units: tuple[int, ...]
    budget_left: int
    reached: int | None = None
    loss_before: float | None = None
    loss_after: float | None = None
    wrong: int | None = None
    kept: bool | None = None
