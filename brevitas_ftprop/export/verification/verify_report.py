"""What a verification found, quantizer by quantizer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import VerificationError
from ..tables import text_table

# Listed one by one; all are counted.
LISTED = 100
OUTPUT = "output"


@dataclass(frozen=True)
class Excused:
    """A unit whose two integers both lie within the float32 rounding bound of its layer.

    Attributes:
        index: of the unit in the whole batch, (image, channel, …).
        z: its pre-activation in float64.
        bound: largest float32 rounding error of ``z``.
        expected: PyTorch's integer.
        found: the file's integer.
    """

    index: tuple[int, ...]
    z: float
    bound: float
    expected: int
    found: int


@dataclass
class QuantizerReport:
    """Comparison of one call of one quantizer.

    Attributes:
        name: the quantizer's name in the model, with ``#k`` for its k-th further call.
        kind: ``"activation"`` or ``"weight"``.
        compared: number of units, without the adversarial ones.
        quantizer_mismatches: units that differ with PyTorch's own pre-activations as input.
        adversarial: number of further inputs at and beside each threshold, zeros and large values.
        adversarial_mismatches: how many of them differ.
        layer_mismatches: units that differ with PyTorch's own integers as the layer's input,
            without excuse, or whose pre-activation there lies beyond twice the float32 rounding
            bound.
        excused: units that differ there, with a pre-activation within the bound.
        at_risk: units whose threshold lies within the bound, whether they differ or not.
        declared_mismatches: 1 if its QONNX node declares another integer type than the quantizer
            has, from which a compiler would build other hardware.
        listed: the first of the excused units.
    """

    name: str
    kind: str
    compared: int = 0
    quantizer_mismatches: int = 0
    adversarial: int = 0
    adversarial_mismatches: int = 0
    layer_mismatches: int = 0
    excused: int = 0
    at_risk: int = 0
    declared_mismatches: int = 0
    listed: list[Excused] = field(default_factory=list)

    @property
    def mismatches(self) -> int:
        """All differences that nothing excuses."""
        return (
            self.declared_mismatches
            + self.quantizer_mismatches
            + self.adversarial_mismatches
            + self.layer_mismatches
        )

    def list_excused(self, units: list[Excused]) -> None:
        """Add to the listing, up to its limit."""
        self.listed += units[: LISTED - len(self.listed)]


@dataclass
class OutputReport:
    """Comparison of the model's output with the file's, run as it is.

    Attributes:
        level: the runner's optimization level.
        images: number of images compared.
        max_difference: largest absolute difference.
        same_class: images with the same index of the largest output.
        excused: images in which the first quantizer that differs does so only in units at risk,
            with a pre-activation within the bound (where optimizations have left the tensor);
            what follows from that is not compared.
        mismatches: other images in which a quantizer differs, or an output by more than the
            float32 rounding bound.
        first_difference: the first quantizer that differs without excuse, or ``"output"``.
    """

    level: str
    images: int = 0
    max_difference: float = 0.0
    same_class: int = 0
    excused: int = 0
    mismatches: int = 0
    first_difference: str | None = None


@dataclass
class VerifyReport:
    """Result of ``verify_export``.

    Attributes:
        quantizers: in graph order.
        outputs: one for each optimization level of the runner.
        output_mismatches: outputs beyond the float32 rounding bound, the last layer being fed
            PyTorch's own integers.
        unbounded: operators without an error bound; nothing behind them is excused.
        interface: what the file says of its input and output (name, type, shape), where that is
            not what the exporter writes for this model.
    """

    quantizers: list[QuantizerReport] = field(default_factory=list)
    outputs: list[OutputReport] = field(default_factory=list)
    output_mismatches: int = 0
    unbounded: list[str] = field(default_factory=list)
    interface: list[str] = field(default_factory=list)

    @property
    def mismatches(self) -> int:
        """All differences that nothing excuses."""
        return (
            sum(quantizer.mismatches for quantizer in self.quantizers)
            + self.output_mismatches
            + len(self.interface)
            + sum(output.mismatches for output in self.outputs)
        )

    @property
    def excused(self) -> int:
        """Units that differ within the float32 rounding bound of their layer."""
        return sum(quantizer.excused for quantizer in self.quantizers)

    @property
    def ok(self) -> bool:
        """Whether the file computes what the model does."""
        return self.mismatches == 0

    @property
    def first_difference(self) -> str | None:
        """Name of the first quantizer that differs, in graph order; ``"output"``; or None.

        Differences with PyTorch's own values as input come before those of the whole file.
        """
        for quantizer in self.quantizers:
            if quantizer.mismatches:
                return quantizer.name
        if self.output_mismatches or self.interface:
            return OUTPUT
        return next((o.first_difference for o in self.outputs if o.mismatches), None)

    def raise_if_different(self) -> None:
        """Raise unless ``ok``.

        Raises:
            VerificationError: names the first layer that differs.
        """
        if not self.ok:
            raise VerificationError(
                f"the file differs from the model, first at {self.first_difference} "
                f"({self.mismatches} differences without excuse)"
            )

    def as_dict(self) -> dict[str, Any]:
        """The report in plain types."""
        return {
            "ok": self.ok,
            "mismatches": self.mismatches,
            "excused": self.excused,
            "first_difference": self.first_difference,
            **asdict(self),
        }

    def __str__(self) -> str:
        columns = {
            "quantizer": 9, "units": 9, "alone": 7, "at thresholds": 13, "in layer": 8,
            "excused": 7,
        }  # fmt: skip
        title, *lines = text_table(columns, map(_row, self.quantizers))
        lines = [
            title,
            *(
                line + "  another integer type" * q.declared_mismatches
                for line, q in zip(lines, self.quantizers, strict=True)
            ),
        ]
        for o in self.outputs:
            lines.append(
                f"output, optimizations {o.level}: max difference {o.max_difference:.3g}, "
                f"same class {o.same_class} of {o.images}, different images {o.mismatches}, "
                f"excused {o.excused}"
            )
        lines += self.interface
        if self.unbounded:
            lines.append(f"operators without an error bound: {', '.join(self.unbounded)}")
        first = self.first_difference
        lines.append("no differences" if first is None else f"first difference: {first}")
        return "\n".join(lines)


def _row(quantizer: QuantizerReport) -> tuple[object, ...]:
    of_inputs = quantizer.adversarial_mismatches, quantizer.layer_mismatches
    return (
        quantizer.name,
        quantizer.compared,
        quantizer.quantizer_mismatches,
        *(("-", "-") if quantizer.kind == "weight" else of_inputs),
        quantizer.excused,
    )
