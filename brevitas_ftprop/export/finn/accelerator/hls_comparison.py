"""Run FINN's own C++ of layers in HLS on the values that an accelerator's FIFOs carry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import VerificationError
from ..rtl.streams import pack
from ..rtl.toolchain import run_tool
from .compilation import Compiler
from .hls_source import Hlslib, HlsSource
from .network import Fifo, Network, Unit
from .run_record import End, SourceRecord

# Functions that hand over one transaction a call may take and give in different calls.
SPARE_CALLS = 256


def compare_sources(
    network: Network,
    expected: Sequence[NDArray],
    images: int,
    folder: Path,
    compiler: Compiler,
    hlslib: Hlslib,
    pool: Executor,
    show: Callable[[str, Sequence[Future[Any]]], None],
) -> SourceRecord:
    """Each layer's own C++ beside what its outputs are to carry, word by word.

    Args:
        network: its units have their sources.
        expected: transactions (T, values) of each FIFO, those of all images.
        images: their number.
        folder: has the words of each FIFO.
        compiler: keeps the programs.
        hlslib: to compile with.
        pool: of threads that wait for compilers and programs.
        show: waits for them, and shows how far they are.
    """

    def run(unit: Unit) -> dict[str, End] | str:
        if not isinstance(unit.source, HlsSource):
            return str(unit.source)
        try:
            program = compiler.source(unit.source, hlslib, name=unit.name)
        except VerificationError as error:
            return str(error)
        _stream(program, unit, network, [len(each) for each in expected], images, folder)
        return {
            fifo.name: _end(folder / _file(unit, f"out{fifo.output}"), fifo, transactions)
            for fifo, transactions in zip(network.fifos, expected, strict=True)
            if fifo.producer == unit.name
        }

    units = [unit for unit in network.units if unit.source is not None]
    jobs = {unit.name: pool.submit(run, unit) for unit in units}
    show("comparing with finn-hlslib", list(jobs.values()))
    found = {name: job.result() for name, job in jobs.items()}
    return SourceRecord(
        compared={name: ends for name, ends in found.items() if not isinstance(ends, str)},
        left_out={name: why for name, why in found.items() if isinstance(why, str)},
    )


def _stream(
    program: Path, unit: Unit, network: Network, counts: list[int], images: int, folder: Path
) -> None:
    source = unit.source
    assert isinstance(source, HlsSource)
    taken = {f"in{f.place}": i for i, f in enumerate(network.fifos) if f.consumer == unit.name}
    given = {f"out{f.output}": i for i, f in enumerate(network.fifos) if f.producer == unit.name}
    calls, arguments = SPARE_CALLS, []
    for stream in source.streams:
        if stream in given:
            side, file, count = "out", _file(unit, stream), counts[given[stream]]
        elif stream in taken:
            side, file, count = "in", f"fifo_{taken[stream]}.bin", counts[taken[stream]]
        else:
            assert source.constants is not None
            # As many rounds as the layer may read.
            side, file, count = "in", _file(unit, stream), unit.estimated_cycles * images
            (folder / file).write_bytes(source.constants.tobytes())
        calls += 2 * count
        arguments += [side, file, str(count)]
    failure = f"FINN's C++ of {unit.name} stopped"
    run_tool([str(program), str(calls), *arguments], folder, failure, seconds=None)


def _file(unit: Unit, stream: str) -> str:
    return f"{unit.name}_{stream}.bin"


def _end(path: Path, fifo: Fifo, transactions: NDArray) -> End:
    """What came out of a layer; a transaction that did not come counts as one of zeros."""
    wanted = pack(transactions, fifo.port.element)
    words = np.fromfile(path, dtype="<u4").reshape(-1, fifo.words)
    seen = min(len(words), len(wanted))
    found = np.zeros_like(wanted)
    found[:seen] = words[:seen]
    wrong = (found != wanted).any(axis=1)
    wrong[seen:] = True
    first = int(wrong.argmax())
    return End(len(words), int(wrong.sum()), first, found[first])
