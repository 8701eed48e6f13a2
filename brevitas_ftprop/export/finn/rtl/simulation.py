"""Run FINN's RTL beside the executor, node by node."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from qonnx.core.datatype import BaseDataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp
from torch import Tensor

from ...errors import VerificationError
from ...quiet import silence
from ..device import check_device
from ..environment import finn_environment
from .adapters import adapter_of, reason_for
from .design import Adapter, Design, DeviceTarget
from .node_values import execute
from .partition import check_batch, check_names, check_values, load_partition
from .rtl_report import NodeReport, RtlReport
from .stream_comparison import compare
from .streams import pack
from .tools import require_tools
from .verilator import Builder, stream

if TYPE_CHECKING:
    from finn.custom_op.fpgadataflow.hwcustomop import HWCustomOp

# Pauses of the second pass; any number but 0.
SEED = 20180217
# Both sides wait half of the time, in runs, and the weights too.
PATIENCE = 40
SPARE_CYCLES = 20_000


def simulate_rtl(
    partition: str | os.PathLike[str] | ModelWrapper,
    batch: NDArray | Tensor,
    *,
    nodes: str | Sequence[str] = "all",
    keep: str | os.PathLike[str] | None = None,
    fpga_part: str = "xczu7ev-ffvc1156-2-e",
    clock_ns: float = 5.0,
) -> RtlReport:
    """Simulate the RTL of a FINN partition with Verilator and compare every value it streams out.

    The partition is executed with FINN's Python models, image by image, to learn what each node
    takes and gives. For each node that Verilator can simulate, FINN writes the RTL and its
    parameter files from the partition; all input transactions of the batch are streamed in twice,
    once without pauses, which gives the cycles, and once with random pauses of both sides; and
    every output value is compared with the executor's. Matrix-vector nodes take their weights from
    FINN's memory file, and multiply with FINN's behavioural model of the DSP slice.

    Args:
        partition: path of a dataflow partition after FINN's SpecializeLayers (and folding), or the
            ``ModelWrapper`` itself, which is not changed.
        batch: array or tensor (N, …) in the layout of the partition's input (FINN's is
            channels-last) with values of its datatype.
        nodes: ``"all"``, or the names of the nodes to report on.
        keep: a folder for the RTL, builds and streams, new or empty; without one, nothing is left.
        fpga_part: decides which DSP slice matrix-vector nodes are written for.
        clock_ns: clock period in nanoseconds, as far as the RTL depends on it.

    Returns:
        The report; ``report.ok`` if no simulated node differs or breaks the streams' protocol.
        Nodes that were not simulated say why.

    Raises:
        ImportError: where FINN is missing.
        TypeError, ValueError: for a batch that does not fit, unknown nodes, or a part or clock
            period that is none.
        FileNotFoundError: if there is no file.
        FileExistsError: if ``keep`` is not an empty folder.
        VerificationError: if the file is damaged or no partition, if Verilator or a compiler is
            missing (says the install line) or fails (names the node).

    References:
        FINN's ``finn-rtllib`` and ``generate_hdl`` (finn-plus 1.6.1); Verilator 5.006 and 5.48.
    """
    check_device(fpga_part, clock_ns)
    with finn_environment(), ExitStack() as stack:
        with silence():
            model = load_partition(partition)
        images = check_batch(batch, model)
        names = check_names(nodes, model)
        require_tools()
        if keep is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rtl-")))
        else:
            folder = _empty_folder(Path(keep))
        return _run(model, images, names, folder, DeviceTarget(fpga_part, clock_ns))


@dataclass(frozen=True)
class _Job:
    """One node to simulate: its RTL, what it takes and gives (images, …), and its report."""

    design: Design
    taken: NDArray
    given: NDArray
    report: NodeReport


def _run(
    model: ModelWrapper,
    images: NDArray[np.float32],
    names: set[str],
    folder: Path,
    target: DeviceTarget,
) -> RtlReport:
    chosen = [node for node in model.graph.node if node.name in names]
    reports = {node.name: NodeReport(node.name, node.op_type) for node in chosen}
    adapters: list[tuple[HWCustomOp, Adapter]] = []
    with silence():
        for node in chosen:
            adapter, reason = adapter_of(node), reason_for(node)
            if adapter is not None:
                op = cast("HWCustomOp", getCustomOp(node))
                reason = adapter.obstacle(op)
                if reason is None:
                    adapters.append((op, adapter))
            reports[node.name].reason = reason
    ends = [(op.onnx_node.input[0], op.onnx_node.output[0]) for op, _ in adapters]
    truth = execute(model, images, sum(ends, ())) if adapters else {}
    jobs = []
    with silence():
        for (op, adapter), (source, sink) in zip(adapters, ends, strict=True):
            name = op.onnx_node.name
            _check_truth(truth[source], op.get_input_datatype(0), name)
            place = folder / "nodes" / re.sub(r"[^\w.-]", "_", name)
            place.mkdir(parents=True)
            design = adapter.design(op, model, place, target)
            jobs.append(_Job(design, truth[source], truth[sink], reports[name]))
    builder = Builder(folder / "builds")
    # Verilator, the compiler and the simulations are processes of their own.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(lambda job: _simulate(job, builder), jobs))
    return RtlReport(images=len(images), nodes=list(reports.values()), builds=len(builder))


def _simulate(job: _Job, builder: Builder) -> None:
    started = time.perf_counter()
    program = builder.build(job.design, name=job.report.name)
    try:
        for seed in (0, SEED):
            _pass(program, job, seed)
    except VerificationError as error:
        job.report.failure = str(error)
    job.report.estimated_cycles = job.design.estimated_cycles
    job.report.seconds = time.perf_counter() - started


def _pass(program: Path, job: _Job, seed: int) -> None:
    design, report = job.design, job.report
    # Two images at least: the cycles of an image are those between it and the next.
    order = [0, 0] if len(job.taken) == 1 else list(range(len(job.taken)))
    sources = np.concatenate([design.source.transactions(job.taken[i]) for i in order])
    expected = np.concatenate([design.sink.transactions(job.given[i]) for i in order])
    cycles = max(design.estimated_cycles * len(order), len(sources), len(expected))
    recording = stream(
        program,
        design,
        pack(sources, design.source.element),
        wanted=len(expected),
        limit=PATIENCE * cycles + SPARE_CYCLES,
        seed=seed,
        name=report.name,
    )
    compare(recording, expected, design, images=len(order), report=report)
    if seed == 0 and len(recording.taken_at) == len(expected):
        last = recording.taken_at.reshape(len(order), -1)[:, -1]
        report.cycles = round((last[-1] - last[0]) / (len(order) - 1))
        report.latency = int(last[0]) - recording.first_input + 1


def _check_truth(taken: NDArray, datatype: BaseDataType, name: str) -> None:
    try:
        check_values(taken, datatype, f"the input of {name}")
    except ValueError as error:
        raise VerificationError(f"the partition contradicts itself: {error}") from error


def _empty_folder(folder: Path) -> Path:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not an empty folder: give a new one")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()
