"""What a run of the FINN flow did and found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..tables import markdown_table, text_table

ESTIMATES = (
    "Resources are FINN's estimates: without the FIFOs between layers, and 0 where FINN has none "
    "for a layer."
)
# Of the steps' table, with the widths in which it is printed.
COLUMNS = {
    "step": 12, "nodes": 12, "seconds": 13, "images": 13, "same class": 13,
    "integers": 13, "different": 13, "excused": 13, "max difference": 15,
}  # fmt: skip


@dataclass(frozen=True)
class ExcusedInStep:
    """An integer of a step's graph that differs within the float32 rounding bound of its layer.

    Attributes:
        image: its position in the batch.
        quantizer: name in the PyTorch model; ``"output"`` for a class.
        call: of the quantizer in a forward pass.
        position: in PyTorch's tensor; empty for a class.
        found, expected: the graph's integer and PyTorch's, counted from the lowest level, or the
            indices of classes whose logits lie within their rounding of each other.
    """

    image: int
    quantizer: str
    call: int
    position: tuple[int, ...]
    found: int
    expected: int


@dataclass
class StepReport:
    """One step of the flow, and its graph beside PyTorch.

    Attributes:
        name: of the step.
        file: the model behind the step, relative to the output folder.
        nodes: number of nodes.
        software_nodes: those that are not hardware layers (meaningful from ``hardware`` on).
        seconds: how long the step took, the comparison apart.
        images: number of images that were compared up to the output.
        compared: number of integers compared with PyTorch's.
        thresholds: number of thresholds compared with the quantizers' own, in the steps where they
            still are thresholds on PyTorch's pre-activations.
        mismatches: how many differ without excuse.
        excused: how many differ within the float32 rounding bound of their layer; what is behind
            them is compared with them set right. A class that rounding decides is counted too.
        excused_units: which they are (behind the first step, whose quantizers ``verify_export``
            compares).
        max_difference: largest absolute difference of a logit.
        wrong_outputs: logits beyond their rounding bound, or other class indices where the logits
            of both classes are further apart.
        same_class: images with the same index of the largest logit, nothing set right.
        first_difference: node and quantizer of the first mismatch, ``"output"``, or None.
        untracked: quantizers whose node is not known any more, so that only what follows from
            them is compared.
    """

    name: str
    file: str
    nodes: int
    software_nodes: list[str]
    seconds: float
    images: int = 0
    compared: int = 0
    thresholds: int = 0
    mismatches: int = 0
    excused: int = 0
    excused_units: list[ExcusedInStep] = field(default_factory=list)
    max_difference: float = 0.0
    wrong_outputs: int = 0
    same_class: int = 0
    first_difference: str | None = None
    untracked: list[str] = field(default_factory=list)

    @property
    def caveat(self) -> str:
        """Which quantizers are not followed into this step's graph."""
        return f"Not followed into step {self.name}: {', '.join(self.untracked)}."

    @property
    def ok(self) -> bool:
        """Whether the step's graph computes what PyTorch computes."""
        return self.first_difference is None

    @property
    def row(self) -> tuple[object, ...]:
        """What stands in the table of the steps."""
        seconds, largest = f"{self.seconds:.1f}", f"{self.max_difference:.3g}"
        counts = self.images, self.same_class, self.compared
        different = self.mismatches + self.wrong_outputs
        return (self.name, self.nodes, seconds, *counts, different, self.excused, largest)


@dataclass
class FinnReport:
    """Result of ``export_finn``.

    Attributes:
        status: ``"complete"`` or ``"failed"``.
        error: why it failed.
        fpga_part, clock_ns, target_fps: what was asked for.
        io: what enters and leaves the accelerator, and what is left to software.
        steps: in order.
        layers: of each hardware layer, the model's layer and the quantizer that it computes, its
            folding (PE and SIMD), its cycles an image and its estimated resources; None where there
            is no such thing.
        resources: the estimated total of each kind (LUT, BRAM_18K, URAM, DSP).
        performance: FINN's estimate for the network (throughput, latency, the slowest layer).
        untrained: whether it was said that nobody has trained the weights.
    """

    fpga_part: str
    clock_ns: float
    target_fps: int
    io: dict[str, str]
    status: str = "failed"
    error: str | None = None
    steps: list[StepReport] = field(default_factory=list)
    layers: dict[str, dict[str, Any]] = field(default_factory=dict)
    resources: dict[str, float] = field(default_factory=dict)
    performance: dict[str, Any] = field(default_factory=dict)
    untrained: bool = False

    @property
    def ok(self) -> bool:
        """Whether every step computes what PyTorch computes."""
        return self.status == "complete" and all(step.ok for step in self.steps)

    @property
    def mismatches(self) -> int:
        """Integers that differ without excuse, over all steps."""
        return sum(step.mismatches for step in self.steps)

    @property
    def excused(self) -> int:
        """Integers that differ within their layer's rounding bound, over all steps."""
        return sum(step.excused for step in self.steps)

    def as_dict(self) -> dict[str, Any]:
        """The report in plain types, as ``report.json`` holds it."""
        return asdict(self) | {"ok": self.ok}

    def to_markdown(self) -> str:
        """Tables of the steps, input and output, the resources and the throughput."""
        lines = [
            "# FINN flow",
            "",
            f"Part {self.fpga_part}, clock {self.clock_ns} ns, "
            f"target {self.target_fps} frames a second: {self.status}.",
        ]
        if self.untrained:
            lines += ["", "**The weights are untrained.**"]
        if self.error is not None:
            lines += ["", f"**{self.error}**"]
        lines += [line for step in self.steps if step.untracked for line in ("", step.caveat)]
        lines += ["", *markdown_table(list(COLUMNS), [step.row for step in self.steps])]
        lines += ["", *markdown_table(("images and result", "form"), self.io.items())]
        if self.resources:
            totals = [(kind, f"{value:g}") for kind, value in self.resources.items()]
            lines += ["", *markdown_table(("estimated resource", "total"), totals)]
        if self.performance:
            measures = self.performance.items()
            lines += ["", *markdown_table(("estimated performance", "value"), measures)]
            lines += ["", "![Cycles and resources of each layer](dataflow.png)"]
        if self.layers:
            columns = ("layer", *next(iter(self.layers.values())))
            rows = [
                (name, *("" if value is None else value for value in layer.values()))
                for name, layer in self.layers.items()
            ]
            lines += ["", ESTIMATES, "", *markdown_table(columns, rows)]
        return "\n".join(lines) + "\n"

    def __str__(self) -> str:
        lines = text_table(COLUMNS, [step.row for step in self.steps])
        lines += [step.caveat for step in self.steps if step.untracked]
        fps = self.performance.get("estimated_throughput_fps")
        if fps is not None:
            totals = ", ".join(f"{kind} {value:g}" for kind, value in self.resources.items())
            lines.append(f"estimated {fps:.0f} frames a second on {self.fpga_part}: {totals}")
        return "\n".join([*lines, self.status if self.error is None else self.error])
