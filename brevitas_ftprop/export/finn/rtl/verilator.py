"""Build a node's RTL with Verilator and stream transactions through it."""

from __future__ import annotations

import hashlib
import re
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .design import Design
from .toolchain import compile_cpp, compile_unit, run_tool, runtime_parts
from .translation import Sources, texts_of, translate

TESTBENCH = Path(__file__).with_name("testbench.cpp")


@dataclass(frozen=True)
class Recording:
    """What a node answered.

    Attributes:
        words: of the output transactions, uint32 (T, W).
        taken_at: clock cycle in which each was taken, int64 (T,).
        first_input: clock cycle in which the first input was taken.
        unstable: clock cycles in which an offered output was changed or withdrawn.
    """

    words: NDArray[np.uint32]
    taken_at: NDArray[np.int64]
    first_input: int
    unstable: int


class Builder:
    """Builds designs, each distinct one once, from any number of threads.

    Designs that differ only in the contents of their parameter files share a build.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._programs: dict[str, Future[Path]] = {}
        self._beside = ThreadPoolExecutor(1)
        self._runtime: Future[Path] | None = None

    def __len__(self) -> int:
        return len(self._programs)

    def build(self, design: Design, *, name: str) -> Path:
        """The program that simulates a design.

        Raises:
            VerificationError: if Verilator or the compiler fails (names the node, shows why).
        """
        sources, defines = texts_of(design)
        key = hashlib.sha256(repr((sources, defines)).encode()).hexdigest()[:16]
        with self._lock:
            known = self._programs.get(key)
            program = self._programs.setdefault(key, Future())
        if known is None:
            try:
                program.set_result(self._compile(self._folder / key, sources, defines, name=name))
            except BaseException as error:
                program.set_exception(error)
        return program.result()

    def _compile(self, folder: Path, sources: Sources, defines: list[str], *, name: str) -> Path:
        folder.mkdir(parents=True)
        generated, include = translate(sources, folder, name=name)
        with self._lock:
            if self._runtime is None:
                self._runtime = self._beside.submit(self._compile_runtime, generated, include)
            runtime = self._runtime
        files = [*sorted(generated.glob("*.cpp")), TESTBENCH]
        unit = compile_unit(folder / "node", files, [*defines, f"-I{generated}"], include, name)
        program = folder / "simulation"
        arguments = [str(unit), str(runtime.result()), "-pthread", "-o", str(program)]
        compile_cpp(arguments, include, folder, name)
        return program

    def _compile_runtime(self, generated: Path, include: Path) -> Path:
        """Verilator's runtime, compiled beside the first build and shared by the others."""
        files = [include / f"{part}.cpp" for part in runtime_parts(generated)]
        return compile_unit(self._folder / "runtime", files, ["-O0"], include, "every node")


def stream(
    program: Path,
    design: Design,
    inputs: NDArray[np.uint32],
    *,
    wanted: int,
    limit: int,
    seed: int,
    name: str,
) -> Recording:
    """Stream input transactions through a node after a reset.

    Args:
        program: the build of ``design``.
        design: its folder receives the recorded files.
        inputs: words of all input transactions, uint32 (T, W).
        wanted: output transactions to wait for; surplus ones are recorded too, unless the design
            runs ahead.
        limit: clock cycles after which to give up waiting.
        seed: of the pauses in both directions; 0 for none.
        name: the node's, for messages.

    Raises:
        VerificationError: if the RTL stops with an error of its own (names the node, shows why).
    """
    folder = design.folder
    (folder / "in0.bin").write_bytes(inputs.tobytes())
    if design.weights is not None:
        (folder / "in1.bin").write_bytes(design.weights.tobytes())
    text = run_tool(
        [str(program), str(wanted), str(limit), str(seed)],
        folder,
        f"the RTL of {name} stopped",
    )
    numbers = dict(re.findall(r"(\w+)=(\d+)", text.splitlines()[-1]))
    taken_at = np.fromfile(folder / "cycles.bin", dtype="<u8").astype(np.int64)
    words = np.fromfile(folder / "out0.bin", dtype="<u4")
    bits = design.sink.element.bits * design.sink.shape[-1]
    kept = slice(wanted if design.runs_ahead else None)
    return Recording(
        words=words.reshape(len(taken_at), -(-bits // 32))[kept],
        taken_at=taken_at[kept],
        first_input=int(numbers["first_input"]),
        unstable=int(numbers["unstable"]),
    )
