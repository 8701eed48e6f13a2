"""What a search for targets has chosen, layer by layer."""

from dataclasses import dataclass, field

NOTHING = "no targets were chosen: no gradient has come to a quantizer that is searched"


@dataclass
class LayerTargets:
    """Targets of one layer's units.

    Attributes:
        chosen: number of targets that a setter chose.
        differing: number of those that are not −sign(g).
        fall: of the loss above after a step for the targets, where it was measured.
        default_fall: the same for −sign(g) with weight |g|.

    >>> print(LayerTargets(200, 3))
    200 targets, 1.5 % other than −sign(g)
    """

    chosen: int = 0
    differing: int = 0
    fall: float | None = None
    default_fall: float | None = None

    @property
    def share(self) -> float:
        """Share of the targets that are not −sign(g)."""
        return self.differing / max(self.chosen, 1)

    def __str__(self) -> str:
        text = f"{self.chosen} targets, {self.share:.1%} other than −sign(g)".replace("%", " %")
        if self.fall is None:
            return text
        return f"{text}; loss above falls by {self.fall:.3g}, by default {self.default_fall:.3g}"


@dataclass
class TargetReport:
    """All layers of a model.

    Attributes:
        layers: by quantizer.
        left: quantizers that keep −sign(g) and |g|, with the reason.

    >>> print(TargetReport())
    no targets were chosen: no gradient has come to a quantizer that is searched
    """

    layers: dict[str, LayerTargets] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{name}: {layer}" for name, layer in self.layers.items()]
        lines += [f"{name}: left at −sign(g), {reason}" for name, reason in self.left.items()]
        if not self.layers:
            lines.insert(0, NOTHING)
        return "\n".join(lines)
