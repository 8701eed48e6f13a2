"""Find depths of FIFOs with which nothing deadlocks and nothing waits longer than it must."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import VerificationError
from .bench import UNBOUNDED, Bench
from .diagnosis import deadlock, faults
from .network import SHALLOWEST, Fifo, Network
from .run_record import Record

# The second difference between their ends is that of the steady state.
FRAMES = 3
TRIALS = 16


@dataclass(frozen=True)
class _Target:
    """What depths have to reach: cycles between frames with unbounded FIFOs."""

    bench: Bench
    limit: int
    steady: int

    def is_reached(self, depths: dict[str, int]) -> bool:
        record = self.bench.run(depths, frames=FRAMES, limit=self.limit)
        is_right = record.status == "done" and not faults(self.bench, record)
        return is_right and _steady(record) <= self.steady


def search(bench: Bench, *, cycles: int | None = None, trials: int = TRIALS) -> dict[str, int]:
    """Depths by FIFO.

    Images come at the interval that unbounded FIFOs allow, and each FIFO is given what was in it at
    most: since no node then ever waits for room, nothing deadlocks, whenever images come (the nodes
    wait for their streams only, so that what each gives does not depend on when). Then as many are
    made as shallow as the interval allows: all at once, and where that fails half of them, and so
    on down to single ones.

    Args:
        bench: the accelerator.
        cycles: to simulate at most, each time.
        trials: runs that may be spent on making FIFOs shallower.

    Raises:
        VerificationError: if the accelerator gives wrong values or does not end.

    References:
        Kahn, The semantics of a simple language for parallel programming, IFIP 1974; Parks, Bounded
        scheduling of process networks, 1995.
    """
    limit = bench.limit(FRAMES) if cycles is None else cycles
    unbounded = dict.fromkeys((fifo.name for fifo in bench.network.fifos), UNBOUNDED)
    free = _finished(bench, unbounded, limit)
    target = _Target(bench, limit, _steady(free))
    paced = _finished(bench, unbounded, limit, interval=target.steady)
    depths = {
        fifo.name: max(SHALLOWEST, record.largest)
        for fifo, record in zip(bench.network.fifos, paced.fifos, strict=True)
    }
    # Images that come as fast as they can fill them in another order.
    while not target.is_reached(depths):
        depths = {name: 2 * depth for name, depth in depths.items()}
    return _shrunk(target, depths, trials)


def _finished(bench: Bench, depths: dict[str, int], limit: int, *, interval: int = 0) -> Record:
    record = bench.run(depths, frames=FRAMES, limit=limit, interval=interval)
    wrong = faults(bench, record)
    if wrong:
        raise VerificationError(f"FIFOs of a wrong accelerator have no size: {wrong[0]}")
    if record.status == "deadlock":
        raise VerificationError(f"FIFOs of any depth {deadlock(bench, record, depths)}")
    if record.status != "done":
        raise VerificationError(
            f"{len(record.ends)} of {FRAMES} frames came out in {limit} cycles: give more cycles"
        )
    return record


def _steady(record: Record) -> int:
    return record.ends[-1] - record.ends[-2]


def _shrunk(target: _Target, depths: dict[str, int], trials: int) -> dict[str, int]:
    """First all FIFOs at once, as FINN inserts them; then parts, those that hold most first."""
    deep = [fifo for fifo in target.bench.network.fifos if depths[fifo.name] > SHALLOWEST]
    parts = [deep] if deep else []
    while parts and trials > 0:
        part = max(parts, key=lambda part: sum(depths[fifo.name] * fifo.bits for fifo in part))
        parts.remove(part)
        shallow = depths | {fifo.name: SHALLOWEST for fifo in part}
        trials -= 1
        if target.is_reached(shallow):
            depths = shallow
        elif len(part) > 1:
            parts += _halves(part, target.bench.network)
        else:
            name, low = part[0].name, SHALLOWEST
            while depths[name] - low > 1 and trials > 0:
                middle = (low + depths[name]) // 2
                trials -= 1
                if target.is_reached(depths | {name: middle}):
                    depths = depths | {name: middle}
                else:
                    low = middle
    return depths


def _halves(part: list[Fifo], network: Network) -> list[list[Fifo]]:
    """Two parts: before joins of streams, where FIFOs have to hold a branch, and elsewhere."""
    joins = {unit.name for unit in network.units if len(unit.sources) > 1}
    before = [fifo for fifo in part if fifo.consumer in joins]
    if 0 < len(before) < len(part):
        return [before, [fifo for fifo in part if fifo not in before]]
    half = len(part) // 2
    return [part[:half], part[half:]]
