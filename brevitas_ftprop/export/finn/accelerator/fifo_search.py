"""Find depths of FIFOs with which nothing deadlocks and nothing waits longer than it must."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...errors import VerificationError
from .bench import UNBOUNDED, Bench
from .diagnosis import deadlock, faults
from .network import SHALLOWEST
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
        return record.status == "done" and _steady(record) <= self.steady


def search(bench: Bench, *, cycles: int | None = None, trials: int = TRIALS) -> dict[str, int]:
    """Depths by FIFO.

    Images come at the interval that unbounded FIFOs allow, and each FIFO is given what was in it at
    most: since no node then ever waits for room, nothing deadlocks, whenever images come (the nodes
    wait for their streams only, so that what each gives does not depend on when). Then the deepest
    are made as shallow as the interval allows, one by one.

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
    left = iter(range(trials))
    for names in _groups(target.bench, depths):
        if all(depths[name] == SHALLOWEST for name in names):
            continue
        if next(left, None) is None:
            break
        shallow = depths | dict.fromkeys(names, SHALLOWEST)
        if target.is_reached(shallow):
            depths = shallow
            continue
        if len(names) > 1:
            continue
        (name,) = names
        low, high = SHALLOWEST, depths[name]
        while high - low > 1 and next(left, None) is not None:
            middle = (low + high) // 2
            if target.is_reached(depths | {name: middle}):
                high = middle
            else:
                low = middle
        depths = depths | {name: high}
    return depths


def _groups(bench: Bench, depths: dict[str, int]) -> Iterator[list[str]]:
    """First all FIFOs that do not end where streams join; then each one, the largest first."""
    network = bench.network
    joins = {unit.name for unit in network.units if len(unit.sources) > 1}
    deep = [fifo for fifo in network.fifos if depths[fifo.name] > SHALLOWEST]
    plain = [fifo.name for fifo in deep if fifo.consumer not in joins]
    if len(plain) > 1:
        yield plain
    for fifo in sorted(deep, key=lambda fifo: -fifo.bits * depths[fifo.name]):
        yield [fifo.name]
