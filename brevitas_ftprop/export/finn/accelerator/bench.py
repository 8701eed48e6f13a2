"""Set an accelerator up in a folder, and run it with any depths of its FIFOs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from ...errors import VerificationError
from ..rtl.design import Design, Port
from ..rtl.streams import pack
from ..rtl.toolchain import follow_tool
from .compilation import Compiler
from .hls_comparison import compare_sources
from .hls_source import Hlslib
from .network import Fifo, Network, Unit
from .run_record import End, FifoRecord, Record, SourceRecord, Timeline, UnitRecord

UNBOUNDED = 0
# How the simulation begins a line that tells transactions that came out, and the cycle.
PROGRESS = "progress: "
# Pauses end, and results leave a node, within so many cycles.
SPARE_CYCLES = 256
PATIENCE = 4


class Bench:
    """An accelerator that is compiled and has its streams' values beside it.

    Args:
        network: its nodes, their RTL written into ``folder``.
        values: of each tensor, (images, …).
        compiler: keeps what it compiles.
        folder: for the files of the runs.
        bar: shows what is done.
        hlslib: with which layers in HLS are compiled as FINN writes them, and compared.

    Raises:
        VerificationError: if a node cannot be compiled, or a stream's two ends have other orders.
    """

    def __init__(
        self,
        network: Network,
        values: Mapping[str, NDArray],
        compiler: Compiler,
        folder: Path,
        bar: Progress,
        hlslib: Hlslib | None = None,
    ) -> None:
        self.network, self.folder = network, folder
        self._bar, self._task = bar, bar.add_task("compiling", total=None)
        self.expected = [_expected(fifo, network, values) for fifo in network.fifos]
        self.images = len(values[network.fifos[0].tensor])
        self.output_shape = values[network.fifos[-1].tensor].shape[1:]
        for index, (fifo, transactions) in enumerate(
            zip(network.fifos, self.expected, strict=True)
        ):
            words = pack(transactions, fifo.port.element)
            (folder / f"fifo_{index}.bin").write_bytes(words.tobytes())
        for index, unit in enumerate(network.units):
            _write_parameters(unit, folder, index)
        # Verilator and the compiler are processes of their own.
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            program = pool.submit(compiler.simulation)
            libraries = {
                index: pool.submit(compiler.node, unit.part, name=unit.name)
                for index, unit in enumerate(network.units)
                if isinstance(unit.part, Design)
            }
            try:
                self._show("compiling", [program, *libraries.values()])
            except BaseException:
                # Those that have begun are waited for, minutes of others are not.
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            self._program = program.result()
            for index, library in libraries.items():
                (folder / f"node_{index}.so").symlink_to(library.result())
            self.sources = SourceRecord({}, {})
            if hlslib is not None:
                self.sources = compare_sources(
                    network, self.expected, self.images, folder, compiler, hlslib, pool, self._show
                )
        self.compiled = len(compiler)

    def limit(self, frames: int) -> int:
        """Cycles after which so many images should have come out, whatever waits for what."""
        estimates = sum(unit.estimated_cycles for unit in self.network.units)
        return PATIENCE * (frames + 1) * estimates + SPARE_CYCLES

    def output_words(self) -> NDArray[np.uint32]:
        """What came out in the last run, (T, W)."""
        words = np.fromfile(self.folder / "outputs.bin", dtype="<u4")
        return words.reshape(-1, self.network.fifos[-1].words)

    def run(
        self,
        depths: Mapping[str, int],
        *,
        frames: int,
        limit: int,
        seed: int = 0,
        interval: int = 0,
    ) -> Record:
        """Stream images through the accelerator, those of the batch over and over.

        Args:
            depths: of the FIFOs by name; ``UNBOUNDED`` for one that never is full.
            frames: images to stream.
            limit: cycles to run at most.
            seed: of random pauses at the input and the output; 0 for none.
            interval: least cycles from one image to the next at the input.

        Raises:
            VerificationError: if the RTL stops with an error of its own (names the node).
        """
        quiet = 2 * max(unit.silence for unit in self.network.units) + SPARE_CYCLES
        lines = [f"{frames} {limit} {quiet} {seed} {interval}", str(self.images)]
        lines.append(str(len(self.network.fifos)))
        lines += [f"{fifo.words} {depths[fifo.name]}" for fifo in self.network.fifos]
        lines.append(str(len(self.network.units)))
        lines += [self._described(unit) for unit in self.network.units]
        (self.folder / "network.txt").write_text("\n".join(lines) + "\n")
        wanted = frames * len(self.expected[-1]) // self.images
        self._bar.reset(self._task, total=wanted, description="simulating")

        def tell(line: str) -> None:
            if line.startswith(PROGRESS):
                seen, cycle = map(int, line.split()[1:])
                text = f"simulating, cycle {cycle}"
                self._bar.update(self._task, completed=seen, description=text, refresh=True)

        try:
            follow_tool([str(self._program)], self.folder, "the simulation stopped", tell)
        except VerificationError as error:
            raise VerificationError(self._named(str(error))) from error
        self._bar.update(self._task, completed=wanted, refresh=True)
        return self._read_record()

    def _named(self, message: str) -> str:
        """A message of the RTL, with the nodes' names for those of their folders."""
        units = self.network.units
        return re.sub(r"\bnode_(\d+)\b", lambda found: units[int(found[1])].name, message)

    def _show(self, text: str, jobs: Sequence[Future[Any]]) -> None:
        """Wait for jobs, on the bar."""
        self._bar.reset(self._task, total=len(jobs), description=text)
        for _ in as_completed(jobs):
            self._bar.update(self._task, advance=1, refresh=True)

    def _described(self, unit: Unit) -> str:
        into = {(fifo.consumer, fifo.input): i for i, fifo in enumerate(self.network.fifos)}
        out_of = {(fifo.producer, fifo.output): i for i, fifo in enumerate(self.network.fifos)}
        sources = [(into[unit.name, i], port) for i, port in enumerate(unit.sources)]
        sinks = [(out_of[unit.name, i], port) for i, port in enumerate(unit.sinks)]
        words = [unit.part.kind if not isinstance(unit.part, Design) else "rtl"]
        for side in (sources, sinks):
            words.append(str(len(side)))
            for fifo, port in side:
                element = port.element
                words.append(f"{fifo} {element.bits} {element.encoding} {port.shape[-1]}")
        if isinstance(unit.part, Design):
            return " ".join([*words, "0 0"])
        numbers = map(str, unit.part.numbers)
        return " ".join([*words, str(len(unit.part.numbers)), *numbers, str(len(unit.part.arrays))])

    def _read_record(self) -> Record:
        first, *rest = (self.folder / "record.txt").read_text().splitlines()
        status, cycles, first_input, stride, *ends = first.split()
        count = len(self.network.fifos)
        return Record(
            status=status,
            cycles=int(cycles),
            first_input=int(first_input),
            ends=tuple(map(int, ends)),
            other_samples=int(rest[-1]),
            fifos=tuple(self._read_fifo(i, line) for i, line in enumerate(rest[:count])),
            units=tuple(_read_unit(line) for line in rest[count:-1]),
            timeline=self._read_timeline(int(stride)),
        )

    def _read_timeline(self, stride: int) -> Timeline:
        units, fifos = len(self.network.units), len(self.network.fifos)
        pieces = np.fromfile(self.folder / "timeline.bin", dtype="<u4")
        spent, fills = np.split(pieces.reshape(-1, 3 * units + fifos), [3 * units], axis=1)
        return Timeline(stride, spent.reshape(-1, units, 3), fills)

    def _read_fifo(self, index: int, line: str) -> FifoRecord:
        largest, fill, *ends = map(int, line.split())
        words = np.zeros(0, np.uint32)
        if ends[1] or ends[4]:
            words = np.fromfile(self.folder / f"wrong_{index}.bin", dtype="<u4")
        # Those that were put in wrong are the first; there are none where none was.
        cut = self.network.fifos[index].words if ends[1] else 0
        put = End(ends[0], ends[1], ends[2], words[:cut])
        taken = End(ends[3], ends[4], ends[5], words[cut:])
        return FifoRecord(largest, fill, put, taken)


def _read_unit(line: str) -> UnitRecord:
    busy, starved, blocked, unstable, lacks, offers, samples = map(int, line.split())
    return UnitRecord(busy, starved, blocked, unstable, _bits(lacks), _bits(offers), samples)


def _bits(mask: int) -> tuple[int, ...]:
    return tuple(i for i in range(mask.bit_length()) if mask >> i & 1)


def _expected(fifo: Fifo, network: Network, values: Mapping[str, NDArray]) -> NDArray:
    """The transactions (T, values) that a FIFO carries, those of one image behind the other."""
    tensor = fifo.tensor
    while tensor in network.same_values:
        tensor = network.same_values[tensor]
    given = _streamed(fifo.producer or fifo.consumer, fifo.port, tensor, values)
    consumer = next((unit for unit in network.units if unit.name == fifo.consumer), None)
    if consumer is not None:
        taken = _streamed(consumer.name, consumer.sources[fifo.input], tensor, values)
        if not np.array_equal(given, taken):
            raise VerificationError(
                f"{fifo.producer} gives the values of {fifo.tensor} in another order than"
                f" {fifo.consumer} takes them: fold both alike"
            )
    return given


def _streamed(name: str | None, port: Port, tensor: str, values: Mapping[str, NDArray]) -> NDArray:
    images = values[tensor]
    if prod(port.shape) != images[0].size:
        raise VerificationError(
            f"{name} streams {prod(port.shape)} values an image, but {tensor} has"
            f" {images[0].size}: its attributes do not fit the graph's shapes"
        )
    return np.concatenate([port.transactions(image) for image in images])


def _write_parameters(unit: Unit, folder: Path, index: int) -> None:
    if isinstance(unit.part, Design):
        if unit.part.weights is not None:
            (folder / f"node_{index}" / "in1.bin").write_bytes(unit.part.weights.tobytes())
        return
    for place, array in enumerate(unit.part.arrays):
        name = f"node_{index}_{place}.bin"
        (folder / name).write_bytes(np.ascontiguousarray(array, "<f8").tobytes())
