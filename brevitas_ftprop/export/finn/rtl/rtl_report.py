"""What a simulation found, node by node."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from ...tables import text_table

# With the widths in which they are printed.
COLUMNS = {
    "node": 4, "transactions": 12, "values": 9, "different": 9,
    "cycles": 8, "estimate": 8, "latency": 8, "seconds": 7,
}  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """The first value in which the RTL and the executor differ.

    Attributes:
        image: index in the batch.
        transaction: index of the output transaction within the image.
        element: index of the value within the transaction.
        expected: the executor's value.
        found: the RTL's, or None where the RTL gave no such transaction.
    """

    image: int
    transaction: int
    element: int
    expected: float
    found: float | None


@dataclass
class NodeReport:
    """Result of one node.

    Attributes:
        name: the node's name in the partition.
        op_type: its operator.
        transactions: output transactions compared, over all passes.
        values: values in them.
        mismatches: values that differ from the executor's; missing and surplus ones count.
        unstable: clock cycles in which an offered output was changed or withdrawn before it was
            taken, which AXI forbids.
        cycles: clock cycles from one image's last output to the next one's, streaming without
            pauses.
        latency: clock cycles from the first input to the first image's last output, both included.
        estimated_cycles: FINN's own estimate of the cycles per image.
        seconds: time to build and run.
        reason: why the node was not simulated, or None.
        failure: the RTL's own message where one of its assertions stopped it, or None.
        difference: the first value that differs.
    """

    name: str
    op_type: str
    transactions: int = 0
    values: int = 0
    mismatches: int = 0
    unstable: int = 0
    cycles: int | None = None
    latency: int | None = None
    estimated_cycles: int | None = None
    seconds: float = 0.0
    reason: str | None = None
    failure: str | None = None
    difference: Difference | None = None

    @property
    def simulated(self) -> bool:
        """Whether the node's RTL was run."""
        return self.reason is None

    @property
    def ok(self) -> bool:
        """Whether the RTL gave the executor's values by the streams' protocol, or was not run."""
        return self.mismatches == 0 and self.unstable == 0 and self.failure is None

    @property
    def row(self) -> tuple[object, ...]:
        """What stands in the printed table."""
        cycles = map(_text, (self.cycles, self.estimated_cycles, self.latency))
        counts = self.transactions, self.values, self.mismatches
        return (self.name, *counts, *cycles, f"{self.seconds:.1f}")


@dataclass
class RtlReport:
    """Result of ``simulate_rtl``.

    Attributes:
        images: number of images in the batch.
        nodes: in graph order.
        builds: number of Verilator builds that the simulated nodes shared.

    >>> report = RtlReport(images=1, nodes=[NodeReport("act", "Thresholding_rtl", 8, 8)])
    >>> report.ok, report.mismatches
    (True, 0)
    """

    images: int = 0
    nodes: list[NodeReport] = field(default_factory=list)
    builds: int = 0

    @property
    def simulated(self) -> list[NodeReport]:
        """The nodes whose RTL was run."""
        return [node for node in self.nodes if node.simulated]

    @property
    def mismatches(self) -> int:
        """Values that differ, over all nodes."""
        return sum(node.mismatches for node in self.nodes)

    @property
    def ok(self) -> bool:
        """Whether at least one node was simulated and no simulated node differs."""
        return bool(self.simulated) and all(node.ok for node in self.nodes)

    def as_dict(self) -> dict[str, Any]:
        """The report in lists, strings and numbers, ready for ``json.dumps``."""
        return {
            "ok": self.ok,
            "images": self.images,
            "builds": self.builds,
            "mismatches": self.mismatches,
            "nodes": [asdict(node) for node in self.nodes],
        }

    def __str__(self) -> str:
        lines = text_table(COLUMNS, [node.row for node in self.simulated])
        lines += [
            f"{node.name}: outputs changed before they were taken in {node.unstable} cycles"
            for node in self.nodes
            if node.unstable
        ]
        lines += [
            f"{node.name}: first difference in image {d.image}, transaction {d.transaction}, "
            f"element {d.element}: expected {d.expected:g}, found {_text(d.found)}"
            for node in self.nodes
            if (d := node.difference) is not None
        ]
        lines += [node.failure for node in self.nodes if node.failure is not None]
        skipped: dict[str, Counter[str]] = {}
        for node in self.nodes:
            if node.reason is not None:
                skipped.setdefault(node.reason, Counter())[node.op_type] += 1
        for reason, kinds in skipped.items():
            listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            lines.append(f"not simulated: {listed} ({reason})")
        lines.append(
            f"{len(self.simulated)} of {len(self.nodes)} nodes simulated on {self.images} images, "
            f"{self.builds} builds, {self.mismatches or 'no'} differences, "
            f"{sum(not node.ok for node in self.nodes) or 'no'} nodes at fault"
        )
        return "\n".join(lines)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
