"""What a conversion did."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class SwapReport:
    """What a conversion did: quantizer names with what was done, or why nothing was.

    Attributes:
        changed: name → description of the change.
        kept: name → reason why it was left alone.
    """

    changed: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        width = max(map(len, self.changed), default=0)
        lines = [f"{len(self.changed)} quantizers changed, {len(self.kept)} left alone"]
        lines += [f"  {name:<{width}}  {change}" for name, change in self.changed.items()]
        lines += [f"  {n} kept: {why}" for why, n in Counter(self.kept.values()).most_common()]
        return "\n".join(lines)
