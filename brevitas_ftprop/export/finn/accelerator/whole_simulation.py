"""Run a whole accelerator, cycle by cycle."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from numpy.typing import NDArray
from onnx import ModelProto
from qonnx.core.modelwrapper import ModelWrapper
from torch import Tensor

from ...errors import VerificationError
from .accelerator_report import AcceleratorReport
from .bench import Bench
from .depths import AUTO, FROM_FOLDING, check_depths, depths_of
from .fifo_search import search
from .preparation import prepared
from .records import report_of

# Pauses of the input and the output; any number but 0.
SEED = 20180217


def simulate_accelerator(
    partition: str | os.PathLike[str] | ModelWrapper | ModelProto,
    batch: NDArray | Tensor,
    *,
    fifo_depths: str | Mapping[str, int] = FROM_FOLDING,
    frames: int | None = None,
    pauses: bool = False,
    cycles: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    hlslib: str | os.PathLike[str] | None = None,
    progress: bool = True,
    fpga_part: str = "xczu7ev-ffvc1156-2-e",
    clock_ns: float = 5.0,
) -> AcceleratorReport:
    """Simulate all nodes of a FINN partition at once, and compare every value between them.

    Nodes in RTL run FINN's own sources through Verilator; for those in HLS, which no open tool
    compiles, stand C++ layers of ours, whose cycles are FINN's estimate. Between them are FIFOs and
    data-width converters where FINN's builder inserts them, all in one process, by the streams'
    valid and ready, clock cycle by clock cycle. What goes into every FIFO and comes out of it is
    compared with FINN's Python models, so that what is at fault is named.

    Args:
        partition: folder of ``export_finn``; path of a dataflow partition after FINN's
            SpecializeLayers and folding, or the ``ModelWrapper`` itself, which is not changed.
        batch: array or tensor (N, …) in the layout of the partition's input (FINN's is
            channels-last) with values of its datatype.
        fifo_depths: ``"folding"`` for those of the nodes' attributes (of a folder, with what its
            ``folding.json`` says); ``"auto"`` for those that ``size_fifos`` finds; or a dict of
            depths by FIFO, beside those of the folding.
        frames: images to stream, those of the batch over and over; N by default.
        pauses: let the input and the output pause at random.
        cycles: to simulate at most; by default what FINN's estimates of all nodes add up to,
            several times.
        cache: folder for what is compiled; below ``~/.cache`` by default.
        hlslib: folder of finn-hlslib; FINN's own is found where FINN has fetched it. With one, the
            C++ that FINN writes for layers in HLS is compiled, given the same values and compared,
            with the open arbitrary-precision headers of the extra ``hls4ml``.
        progress: show compilation and simulation on the terminal.
        fpga_part: decides which DSP slice matrix-vector nodes are written for.
        clock_ns: clock period in nanoseconds.

    Returns:
        The report; ``report.ok`` if all frames came out right. A deadlock is told in it.

    Raises:
        ImportError: where FINN is missing, or the headers for ``hlslib``.
        TypeError, ValueError: for a batch that does not fit, unknown FIFOs, a depth below 2, or a
            ``folding.json`` that folds otherwise than the partition beside it.
        FileNotFoundError: if there is no file, or no finn-hlslib in ``hlslib``.
        VerificationError: if the file is damaged or no partition; for software nodes, nodes without
            a model (named), neighbours whose streams differ; if a tool is missing (says the
            install line) or fails; if the simulation is not over after ``cycles``.

    References:
        FINN's ``InsertFIFO``, ``InsertDWC``, ``get_exp_cycles`` (finn-plus 1.6.1).
    """
    check_depths(fifo_depths)
    check_counts(frames=frames, cycles=cycles)
    device = {"fpga_part": fpga_part, "clock_ns": clock_ns}
    tools = {"cache": cache, "hlslib": hlslib, "progress": progress}
    changed = fifo_depths if isinstance(fifo_depths, Mapping) else {}
    with prepared(partition, batch, fifo_depths=changed, **tools, **device) as bench:
        frames = bench.images if frames is None else frames
        if fifo_depths == AUTO:
            depths = search(bench, cycles=cycles)
        else:
            depths = depths_of(bench.network, changed)
        return reported(
            bench, depths, frames=frames, pauses=pauses, cycles=cycles, clock_ns=clock_ns
        )


def reported(
    bench: Bench,
    depths: Mapping[str, int],
    *,
    frames: int,
    pauses: bool,
    cycles: int | None,
    clock_ns: float,
) -> AcceleratorReport:
    """One run, as ``simulate_accelerator`` describes it.

    Raises:
        VerificationError: if it is not over after ``cycles``.
    """
    started = time.perf_counter()
    limit = bench.limit(frames) if cycles is None else cycles
    record = bench.run(depths, frames=frames, limit=limit, seed=SEED if pauses else 0)
    report = report_of(bench, record, depths, frames, clock_ns)
    report.seconds = time.perf_counter() - started
    if record.status == "limit" and not report.faults:
        raise VerificationError(
            f"{len(record.ends)} of {frames} frames came out in {limit} cycles: give more cycles"
        )
    return report


def check_counts(**counts: int | None) -> None:
    """Raise for numbers of frames or cycles that are none.

    Raises:
        ValueError: names it.
    """
    for name, count in counts.items():
        if count is not None and (
            isinstance(count, bool) or not isinstance(count, int) or count < 1
        ):
            raise ValueError(f"{name} must be a positive integer, not {count!r}")
