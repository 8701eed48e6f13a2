"""From what the simulation recorded to the report."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from ..rtl.design import Design
from ..rtl.streams import unpack
from .accelerator_report import COMPARED, MODEL, RTL, AcceleratorReport, FifoUse, NodeUse
from .bench import Bench
from .diagnosis import deadlock, faults
from .network import Network, Unit
from .run_record import Record


def report_of(
    bench: Bench, record: Record, depths: Mapping[str, int], frames: int, clock_ns: float
) -> AcceleratorReport:
    """The report on the bench's last run.

    Args:
        bench: the accelerator.
        record: of the run.
        depths: of the FIFOs by name.
        frames: that were to come out.
        clock_ns: clock period.
    """
    network, ends = bench.network, record.ends
    report = AcceleratorReport(frames, clock_ns, record.status, record.cycles)
    if ends:
        report.latency = ends[0] - record.first_input + 1
    report.between_frames = [after - before for before, after in pairwise(ends)]
    report.estimated_between_frames = max(unit.estimated_cycles for unit in network.units)
    report.estimated_latency = _critical_path(network)
    samples = record.other_samples + sum(spent.samples for spent in record.units)
    for unit, spent in zip(network.units, record.units, strict=True):
        shares = (spent.busy, spent.starved, spent.blocked)
        report.nodes.append(
            NodeUse(
                unit.name,
                unit.op_type,
                _runs_as(unit, bench),
                unit.estimated_cycles,
                *(count / max(1, record.cycles) for count in shares),
                unstable=spent.unstable,
                effort=spent.samples / max(1, samples),
            )
        )
    for fifo, seen in zip(network.fifos, record.fifos, strict=True):
        report.fifos.append(
            FifoUse(
                fifo.name, fifo.producer, fifo.consumer, fifo.bits, depths[fifo.name], seen.largest
            )
        )
    report.uncompared = bench.sources.left_out
    report.faults = faults(bench, record)
    if record.status == "deadlock":
        report.deadlock = deadlock(bench, record, depths)
    port = network.fifos[-1].port
    values = unpack(bench.output_words(), port.element, port.shape[-1])
    each = len(bench.expected[-1]) // bench.images
    whole = len(values) // each
    report.outputs = values[: whole * each].reshape(whole, *bench.output_shape)
    report.compiled, report.timeline = bench.compiled, record.timeline
    return report


def _runs_as(unit: Unit, bench: Bench) -> str:
    if isinstance(unit.part, Design):
        return RTL
    return COMPARED if unit.name in bench.sources.compared else MODEL


def _critical_path(network: Network) -> int:
    """FINN's estimate of the latency: the cycles on the longest way, converters left out."""
    behind = {network.fifos[0].tensor: 0}
    for unit in network.units:
        cycles = 0 if set(unit.given) <= network.same_values.keys() else unit.estimated_cycles
        behind |= dict.fromkeys(unit.given, cycles + max(behind[name] for name in unit.taken))
    return max(behind.values())
