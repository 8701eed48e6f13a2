"""Build a node's RTL with Verilator and stream transactions through it."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import VerificationError
from .design import TOP, Design
from .dialect import readable
from .tools import find_compiler, find_verilator

TESTBENCH = Path(__file__).with_name("testbench.cpp")
# Builds and runs take seconds; a tool that hangs must not hang the caller.
TOOL_SECONDS = 900
SHOWN_LINES = 12

# The RTL's own assertions are part of what is tested. Its delays only warn about DSP start-up.
VERILATOR_FLAGS = (
    "--cc", "--assert", "--no-timing", "-O3", "--x-assign", "fast", "--x-initial", "fast",
    "-Wno-fatal", "-Wno-lint", "-Wno-style", "-Wno-STMTDLY", "-Wno-INITIALDLY",
    "+define+FINN_SIMULATION", "--prefix", f"V{TOP}", "--top-module", TOP,
)  # fmt: skip
COMPILER_FLAGS = (
    "-std=c++17", "-O1", "-w", "-DVL_TIME_CONTEXT", "-DVERILATOR=1", "-DVM_COVERAGE=0",
    "-DVM_SC=0", "-DVM_TRACE=0", "-DVM_TRACE_FST=0", "-DVM_TRACE_VCD=0",
)  # fmt: skip


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

    Designs that differ only in the contents of their parameter files share a build, since the RTL
    reads those files when it starts.
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
        sources = [(file.name, readable(file.read_text())) for file in design.sources]
        defines = ["-DWEIGHTS"] * (design.weights is not None)
        defines += ["-DCLOCK2X"] * design.doubled_clock
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

    def _compile(
        self, folder: Path, sources: list[tuple[str, str]], defines: list[str], *, name: str
    ) -> Path:
        folder.mkdir(parents=True)
        for file, text in sources:
            (folder / file).write_text(text)
        _verilate(
            [*VERILATOR_FLAGS, "--Mdir", "cpp", *(file for file, _ in sources)],
            folder,
            f"Verilator cannot build the RTL of {name}",
        )
        generated = folder / "cpp"
        include = _verilator_root(folder) / "include"
        with self._lock:
            if self._runtime is None:
                self._runtime = self._beside.submit(self._compile_runtime, generated, include)
            runtime = self._runtime
        files = [*sorted(generated.glob("*.cpp")), TESTBENCH]
        unit = _compile_unit(folder / "node", files, [*defines, f"-I{generated}"], include, name)
        program = folder / "simulation"
        arguments = [str(unit), str(runtime.result()), "-pthread", "-o", str(program)]
        _compile(arguments, include, folder, name)
        return program

    def _compile_runtime(self, generated: Path, include: Path) -> Path:
        """Verilator's runtime, compiled beside the first build and shared by the others."""
        files = [include / f"{part}.cpp" for part in _runtime_parts(generated)]
        return _compile_unit(self._folder / "runtime", files, ["-O0"], include, "every node")


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
    text = _run(
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


def _compile_unit(
    base: Path, files: list[Path], flags: list[str], include: Path, name: str
) -> Path:
    """Compile files as one: most of the compiler's time goes into Verilator's headers."""
    source, target = base.with_suffix(".cc"), base.with_suffix(".o")
    source.write_text("".join(f'#include "{file}"\n' for file in files))
    _compile([*flags, "-c", str(source), "-o", str(target)], include, base.parent, name)
    return target


def _compile(arguments: list[str], include: Path, folder: Path, name: str) -> None:
    compiler = find_compiler()
    assert compiler is not None
    _run(
        [compiler, *COMPILER_FLAGS, f"-I{include}", f"-I{include / 'vltstd'}", *arguments],
        folder,
        f"the C++ compiler cannot build the simulation of {name}",
    )


def _verilate(arguments: list[str], folder: Path, failure: str) -> str:
    verilator = find_verilator()
    assert verilator is not None
    environment = {**os.environ, **verilator.environment}
    return _run([verilator.program, *arguments], folder, failure, environment)


def _verilator_root(folder: Path) -> Path:
    arguments = ["--getenv", "VERILATOR_ROOT"]
    return Path(_verilate(arguments, folder, "Verilator does not say where it is").strip())


def _runtime_parts(generated: Path) -> list[str]:
    """The parts of Verilator's runtime that a model needs, as Verilator lists them."""
    text = (generated / f"V{TOP}_classes.mk").read_text().replace("\\\n", " ")
    lists = re.findall(r"^VM_GLOBAL_(?:FAST|SLOW) \+=(.*)$", text, re.MULTILINE)
    return [part for line in lists for part in line.split()]


def _run(
    command: list[str], folder: Path, failure: str, environment: dict[str, str] | None = None
) -> str:
    try:
        run = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True,
            errors="replace", timeout=TOOL_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise VerificationError(f"{failure}: no result after {TOOL_SECONDS} s") from error
    if run.returncode != 0:
        lines = (run.stdout + run.stderr).strip().splitlines()
        errors = [line for line in lines if "%Error" in line or "error:" in line] or lines
        raise VerificationError("\n".join([f"{failure}:", *errors[-SHOWN_LINES:]]))
    return run.stdout
