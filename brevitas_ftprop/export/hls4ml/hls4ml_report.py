"""What comparing hls4ml's C simulation with PyTorch found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import VerificationError
from ..tables import text_table


@dataclass
class LayerReport:
    """Integers of one activation quantizer.

    Attributes:
        name: the quantizer's name in the model.
        compared: number of integers, without those of images in which an earlier layer differs
            within the float32 rounding bound.
        mismatches: how many differ without excuse.
        excused: how many differ within the float32 rounding bound of their pre-activation, and the
            simulation's own sum lies there too; none of them is among the mismatches.
    """

    name: str
    compared: int = 0
    mismatches: int = 0
    excused: int = 0


@dataclass
class Hls4mlReport:
    """Result of ``export_hls4ml``.

    Attributes:
        folder: of the hls4ml project.
        layers: the activation quantizers in order, the input's first.
        takes_integers_of: the quantizer whose integers the project takes; None if it takes images.
        images: number of images that were simulated.
        max_difference: largest absolute difference between the outputs.
        same_class: images with the same index of the largest output.
        output_mismatches: outputs that differ by more than float32 rounding, in images without an
            excused integer.
        types: hls4ml's type of each layer's result.
        seconds: spent on each step.
        untrained: whether it was said that nobody has trained the weights.
    """

    folder: Path
    layers: list[LayerReport] = field(default_factory=list)
    takes_integers_of: str | None = None
    images: int = 0
    max_difference: float = 0.0
    same_class: int = 0
    output_mismatches: int = 0
    types: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    untrained: bool = False

    @property
    def mismatches(self) -> int:
        """All differences that nothing excuses."""
        return sum(layer.mismatches for layer in self.layers) + self.output_mismatches

    @property
    def excused(self) -> int:
        """Integers that differ within the float32 rounding bound."""
        return sum(layer.excused for layer in self.layers)

    @property
    def ok(self) -> bool:
        """Whether the C simulation computes what the model does."""
        return self.mismatches == 0

    def raise_if_different(self) -> None:
        """Raise unless ``ok``.

        Raises:
            VerificationError: names the first layer that differs.
        """
        if not self.ok:
            first = next((layer.name for layer in self.layers if layer.mismatches), "the output")
            raise VerificationError(
                f"hls4ml's C simulation differs from the model, first at {first} "
                f"({self.mismatches} differences without excuse)"
            )

    def as_dict(self) -> dict[str, Any]:
        """The report in plain types, as ``report.json`` holds it."""
        return {
            **asdict(self),
            "folder": str(self.folder),
            "ok": self.ok,
            "mismatches": self.mismatches,
            "excused": self.excused,
        }

    def __str__(self) -> str:
        columns = {"layer": 5, "integers": 9, "different": 9, "excused": 7}
        rows = ((each.name, each.compared, each.mismatches, each.excused) for each in self.layers)
        lines = text_table(columns, rows)
        lines.append(
            f"output: max difference {self.max_difference:.3g}, same class {self.same_class} of "
            f"{self.images}, beyond rounding {self.output_mismatches}"
        )
        if self.takes_integers_of is not None:
            lines.append(
                f"input: the integers of {self.takes_integers_of}, which software has to compute"
            )
        spent = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in self.seconds.items())
        return "\n".join([*lines, f"{spent}; project in {self.folder}"])
