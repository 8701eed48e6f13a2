"""Which parts there are, in which order, and how much of the time each may take."""

from __future__ import annotations

from dataclasses import dataclass

# A part that is still at its cases when its share is used up leaves out those that are left; one
# that hangs is ended when it has taken this much of all the time beyond its share.
GRACE = 0.2
# Seconds that are kept for ending processes and for the last report.
MARGIN = 4.0


@dataclass(frozen=True)
class PartPlan:
    """A part of the check.

    Attributes:
        name: module of this package that has its ``run``.
        title: of its section in the report.
        share: of all the time; None for what is left.
    """

    name: str
    title: str
    share: float | None

    def deadlines(self, now: float, start: float, minutes: float) -> tuple[float, float]:
        """When it should start nothing more, and when it is ended.

        >>> PartPlan("card", "Card", 0.05).deadlines(30.0, 0.0, 8)
        (54.0, 150.0)
        """
        whole = 60 * minutes
        end = start + whole - MARGIN
        if self.share is None:
            return max(now, end - MARGIN), end
        soft = min(end, now + self.share * whole)
        return soft, min(end, soft + GRACE * whole)


# What tells most in a second comes first; the last takes what time is left.
PARTS = (
    PartPlan("card", "Card, versions and bandwidth", 0.04),
    PartPlan("equality", "Equality tests on the device", 0.22),
    PartPlan("quantizers", "Quantizers", 0.12),
    PartPlan("steps", "Training steps of whole networks", 0.22),
    PartPlan("waiting", "Steps that never wait for the device", 0.05),
    PartPlan("trainer", "Trainer", 0.1),
    PartPlan("comparison", "Comparison on CIFAR-10", None),
)
