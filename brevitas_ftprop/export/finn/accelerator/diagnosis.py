"""Tell what is wrong with an accelerator that gave wrong values, or none any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..rtl.streams import unpack
from .bench import Bench
from .network import Fifo
from .run_record import End, Record


@dataclass(frozen=True)
class Fault:
    """A node or FIFO that makes wrong values of right ones.

    Attributes:
        name: of the node or FIFO, or whose own C++ it is.
        stream: the FIFO where they are seen.
        wrong: transactions that differ.
        frame: of the first of them.
        transaction: its index within the frame.
        element: index of the first wrong value within it.
        expected, found: that value, by the executor and in the simulation.
    """

    name: str
    stream: str
    wrong: int
    frame: int
    transaction: int
    element: int
    expected: float
    found: float

    def __str__(self) -> str:
        return (
            f"{self.name} is at fault: first in frame {self.frame}, transaction"
            f" {self.transaction}, element {self.element} of {self.stream}: expected"
            f" {self.expected:g}, found {self.found:g}; {self.wrong} transactions differ"
        )


def faults(bench: Bench, record: Record) -> list[Fault]:
    """Where wrong values come from: what they make wrong behind it is not told.

    FINN's own C++ is given the right values.
    """
    network = bench.network
    kept = dict(zip((fifo.name for fifo in network.fifos), record.fifos, strict=True))
    found = []
    for unit in network.units:
        sources = [fifo for fifo in network.fifos if fifo.consumer == unit.name]
        if any(kept[fifo.name].taken.wrong for fifo in sources):
            continue
        for fifo in network.fifos:
            end = kept[fifo.name].put
            if fifo.producer == unit.name and end.wrong:
                found.append(_fault(unit.name, fifo, end, bench))
    for fifo in network.fifos:
        ends = kept[fifo.name]
        if ends.taken.wrong and not ends.put.wrong:
            found.append(_fault(fifo.name, fifo, ends.taken, bench))
        for name, compared in bench.sources.compared.items():
            if fifo.name in compared and compared[fifo.name].wrong:
                found.append(_fault(f"FINN's C++ of {name}", fifo, compared[fifo.name], bench))
    return found


def _fault(name: str, fifo: Fifo, end: End, bench: Bench) -> Fault:
    expected = bench.expected[bench.network.fifos.index(fifo)]
    each = len(expected) // bench.images
    wanted = expected[end.first_wrong % len(expected)]
    (found,) = unpack(end.found[None], fifo.port.element, len(wanted))
    element = int((found != wanted).argmax())
    return Fault(
        name=name,
        stream=fifo.name,
        wrong=end.wrong,
        frame=end.first_wrong // each,
        transaction=end.first_wrong % each,
        element=element,
        expected=float(wanted[element]),
        found=float(found[element]),
    )


def deadlock(bench: Bench, record: Record, depths: Mapping[str, int]) -> str:
    """Which FIFOs are full, and what the nodes that do not take from them wait for."""
    network = bench.network
    fill = {f.name: r.fill for f, r in zip(network.fifos, record.fifos, strict=True)}
    full = {f.name for f in network.fifos if fill[f.name] == depths[f.name]}
    told, others = [], []
    for unit, spent in zip(network.units, record.units, strict=True):
        sources = sorted(
            (fifo for fifo in network.fifos if fifo.consumer == unit.name), key=lambda f: f.input
        )
        lacking = [sources[i] for i in spent.lacks]
        for fifo in sources:
            if fifo.name not in full:
                continue
            text = f"{fifo.name} between {fifo.ends} is full at its depth of {depths[fifo.name]}"
            if lacking and not spent.offers:
                waits = " and ".join(f"{f.name} between {f.ends}" for f in lacking)
                told.append(f"{text}, while {unit.name} waits for {waits}, which is empty")
            else:
                others.append(text)
    found = told or others or ["no FIFO is full: a node does not give what it has to"]
    return f"deadlock in cycle {record.cycles}: " + "; ".join(found)
