"""What the simulation of a whole accelerator found."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...tables import text_table
from .diagnosis import Fault
from .run_record import Timeline

NODE_COLUMNS = {
    "node": 4, "runs as": 17, "estimate": 9, "busy %": 7, "starved %": 9, "blocked %": 9,
}  # fmt: skip
FIFO_COLUMNS = {"FIFO": 4, "bits": 5, "depth": 6, "largest fill": 12}
# Too much for a dictionary of plain values.
HELD = ("outputs", "timeline")
RTL, MODEL, COMPARED = "FINN's RTL", "C++ model", "C++ = finn-hlslib"


@dataclass(frozen=True)
class NodeUse:
    """How a node spent the simulation.

    Attributes:
        name, op_type: in the partition.
        runs_as: ``"FINN's RTL"``; ``"C++ model"`` where a layer of ours stands for one in HLS,
            with FINN's estimate as the cycles of an image; ``"C++ = finn-hlslib"`` where the
            C++ that FINN writes for the layer was compiled and compared beside it.
        estimated_cycles: FINN's estimate for one image.
        busy, starved, blocked: share of the cycles. RTL that works on what it has taken counts as
            starved where it has no further input.
        unstable: cycles in which an offered output was changed or withdrawn, which AXI forbids.
        effort: share of the simulation's own processor time that went into the node.
    """

    name: str
    op_type: str
    runs_as: str
    estimated_cycles: int
    busy: float
    starved: float
    blocked: float
    unstable: int = 0
    effort: float = 0.0


@dataclass(frozen=True)
class FifoUse:
    """How full a FIFO became.

    Attributes:
        name: that FINN's builder gives it.
        producer, consumer: nodes; None at the ends of the accelerator.
        bits: width of a transaction.
        depth: transactions that it holds.
        largest: most that were in it.
    """

    name: str
    producer: str | None
    consumer: str | None
    bits: int
    depth: int
    largest: int


@dataclass
class AcceleratorReport:
    """Result of ``simulate_accelerator``.

    Attributes:
        frames: images streamed.
        clock_ns: clock period.
        status: ``"done"`` or ``"deadlock"``.
        cycles: simulated.
        latency: cycles from the first input to the first image's last output, both included;
            without the pipelines of nodes in HLS, whose depth Vitis alone decides.
        between_frames: cycles from one image's last output to the next one's.
        estimated_between_frames, estimated_latency: FINN's estimates: the slowest node's cycles,
            and the sum of those on the longest way.
        nodes, fifos: in graph order.
        uncompared: nodes whose C++ could not be compared though finn-hlslib was there, and why.
        faults: nodes and FIFOs that make wrong values of right ones.
        deadlock: which FIFO is full and which node waits for what; None without one.
        outputs: what came out, (frames, …) in the shape of the partition's output.
        compiled: distinct things that were compiled, or found in the cache.
        seconds: that the simulation took, without compilation.
        timeline: what happened when; ``save_figure`` draws it.

    >>> report = AcceleratorReport(frames=2, clock_ns=5.0, status="done", cycles=300)
    >>> report.latency, report.between_frames = 160, [100]
    >>> report.ok, report.frames_per_second
    (True, 2000000.0)
    """

    frames: int
    clock_ns: float
    status: str
    cycles: int
    latency: int | None = None
    between_frames: list[int] = field(default_factory=list)
    estimated_between_frames: int = 0
    estimated_latency: int = 0
    nodes: list[NodeUse] = field(default_factory=list)
    fifos: list[FifoUse] = field(default_factory=list)
    uncompared: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    deadlock: str | None = None
    outputs: NDArray = field(default_factory=lambda: np.zeros(0), repr=False)
    compiled: int = 0
    seconds: float = 0.0
    timeline: Timeline | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether every frame came out with the executor's values by the streams' protocol."""
        stable = all(node.unstable == 0 for node in self.nodes)
        return self.status == "done" and not self.faults and stable

    @property
    def steady(self) -> int | None:
        """Cycles between the last two frames."""
        return self.between_frames[-1] if self.between_frames else None

    @property
    def frames_per_second(self) -> float | None:
        """At the clock, in the steady state."""
        return None if not self.steady else 1e9 / (self.steady * self.clock_ns)

    @property
    def bottleneck(self) -> str | None:
        """The node that waits least."""
        return max(self.nodes, key=lambda node: node.busy).name if self.nodes else None

    @property
    def modelled(self) -> list[str]:
        """Nodes whose timing is FINN's estimate; latency and cycles between frames rest on it."""
        return [node.name for node in self.nodes if node.runs_as != RTL]

    def as_dict(self) -> dict[str, Any]:
        """The report in lists, strings and numbers, ready for ``json.dumps``."""
        fields = {key: value for key, value in vars(self).items() if key not in HELD}
        return {
            "ok": self.ok,
            **fields,
            "nodes": [asdict(node) for node in self.nodes],
            "fifos": [asdict(fifo) for fifo in self.fifos],
            "faults": [asdict(fault) for fault in self.faults],
            "steady": self.steady,
            "frames_per_second": self.frames_per_second,
            "bottleneck": self.bottleneck,
            "modelled": self.modelled,
        }

    def save_figure(self, path: str | os.PathLike[str]) -> None:
        """Draw which node worked or waited when, and how full the FIFOs were, as a PNG."""
        from .accelerator_figure import draw_accelerator

        draw_accelerator(self, path)

    def __str__(self) -> str:
        shares = [
            (n.name, n.runs_as, n.estimated_cycles, *map(_percent, (n.busy, n.starved, n.blocked)))
            for n in self.nodes
        ]
        fills = [(_between(f), f.bits, f.depth, f.largest) for f in self.fifos]
        lines = [*text_table(NODE_COLUMNS, shares), "", *text_table(FIFO_COLUMNS, fills), ""]
        lines += [str(fault) for fault in self.faults]
        lines += [
            f"{n.name}: outputs changed before they were taken in {n.unstable} cycles"
            for n in self.nodes
            if n.unstable
        ]
        if self.deadlock is not None:
            lines.append(self.deadlock)
        if self.latency is not None:
            lines.append(
                f"first frame after {self.latency} cycles (FINN's estimate"
                f" {self.estimated_latency})"
            )
        if self.steady is not None:
            lines.append(
                f"{self.steady} cycles between frames (FINN's estimate"
                f" {self.estimated_between_frames}): {self.frames_per_second:.0f} frames a second"
                f" at {self.clock_ns:g} ns, bounded by {self.bottleneck}"
            )
        if self.modelled:
            lines.append(
                f"these rest on FINN's estimates of {len(self.modelled)} of {len(self.nodes)} nodes"
                " (C++ models of its HLS layers), which do not know how deep Vitis makes their"
                " pipelines: the first frame comes some cycles later for each of them"
            )
        lines += [f"not compared with finn-hlslib: {why}" for why in self.uncompared.values()]
        found = "every value is the executor's" if not self.faults else f"{len(self.faults)} faults"
        lines.append(f"{self.frames} frames, {self.cycles} cycles, {self.status}: {found}")
        return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _between(fifo: FifoUse) -> str:
    return f"{fifo.name} ({fifo.producer or 'input'} to {fifo.consumer or 'output'})"
