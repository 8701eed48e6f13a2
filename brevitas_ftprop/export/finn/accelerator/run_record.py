"""What one run of an accelerator recorded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class End:
    """One end of a FIFO.

    Attributes:
        seen: transactions that passed.
        wrong: those that are not the executor's.
        first_wrong: the first of them.
        found: its words.
    """

    seen: int
    wrong: int
    first_wrong: int
    found: NDArray[np.uint32]


@dataclass(frozen=True)
class FifoRecord:
    """What a FIFO did: its largest fill, its last, and what was put in and taken out."""

    largest: int
    fill: int
    put: End
    taken: End


@dataclass(frozen=True)
class UnitRecord:
    """What a node did.

    Attributes:
        busy, starved, blocked: cycles.
        unstable: cycles in which an offered output was changed or withdrawn.
        lacks: inputs that it waits for at the end.
        offers: outputs that nobody takes at the end.
        samples: how often the simulation was found at work on it.
    """

    busy: int
    starved: int
    blocked: int
    unstable: int
    lacks: tuple[int, ...]
    offers: tuple[int, ...]
    samples: int


@dataclass(frozen=True)
class SourceRecord:
    """What FINN's own C++ of layers in HLS gave for the values that the FIFOs are to carry.

    Attributes:
        compared: of each node, what it gave for each FIFO behind it, by name.
        left_out: nodes that could not be compared, and why.
    """

    compared: dict[str, dict[str, End]]
    left_out: dict[str, str]


@dataclass(frozen=True)
class Timeline:
    """What happened when, in pieces of equal length.

    Attributes:
        stride: cycles of a piece.
        spent: cycles that each node was busy, starved and blocked, (pieces, nodes, 3).
        fills: of each FIFO at the end of the piece, (pieces, FIFOs).
    """

    stride: int
    spent: NDArray[np.uint32]
    fills: NDArray[np.uint32]


@dataclass(frozen=True)
class Record:
    """One run.

    Attributes:
        status: ``"done"``, ``"deadlock"``, or ``"limit"`` where the cycles were spent before.
        cycles: that it ran.
        first_input: cycle in which the first transaction was taken.
        ends: cycle of each image's last output.
        other_samples: how often the simulation was found at work on no node.
        fifos, units: in the network's order.
        timeline: of the same.
    """

    status: str
    cycles: int
    first_input: int
    ends: tuple[int, ...]
    other_samples: int
    fifos: tuple[FifoRecord, ...]
    units: tuple[UnitRecord, ...]
    timeline: Timeline
