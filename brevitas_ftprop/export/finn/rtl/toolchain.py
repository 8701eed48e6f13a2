"""Call Verilator and the C++ compiler."""

from __future__ import annotations

import os
import re
import subprocess
from collections import deque
from collections.abc import Callable
from pathlib import Path

from ...errors import VerificationError
from .design import TOP
from .tools import find_compiler, find_verilator

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


def compile_unit(base: Path, files: list[Path], flags: list[str], include: Path, name: str) -> Path:
    """Compile files as one: most of the compiler's time goes into Verilator's headers."""
    source, target = base.with_suffix(".cc"), base.with_suffix(".o")
    source.write_text("".join(f'#include "{file}"\n' for file in files))
    compile_cpp([*flags, "-c", str(source), "-o", str(target)], include, base.parent, name)
    return target


def compile_cpp(arguments: list[str], include: Path, folder: Path, name: str) -> None:
    """Call the compiler with Verilator's headers.

    Raises:
        VerificationError: if it fails (names the node, shows why).
    """
    compiler = find_compiler()
    assert compiler is not None
    run_tool(
        [compiler, *COMPILER_FLAGS, f"-I{include}", f"-I{include / 'vltstd'}", *arguments],
        folder,
        f"the C++ compiler cannot build the simulation of {name}",
    )


def verilate(arguments: list[str], folder: Path, failure: str) -> str:
    """What Verilator prints.

    Raises:
        VerificationError: if it fails.
    """
    verilator = find_verilator()
    assert verilator is not None
    environment = {**os.environ, **verilator.environment}
    return run_tool([verilator.program, *arguments], folder, failure, environment)


def verilator_root(folder: Path) -> Path:
    """The folder of Verilator's own files."""
    arguments = ["--getenv", "VERILATOR_ROOT"]
    return Path(verilate(arguments, folder, "Verilator does not say where it is").strip())


def runtime_parts(generated: Path) -> list[str]:
    """The parts of Verilator's runtime that a model needs, as Verilator lists them."""
    text = (generated / f"V{TOP}_classes.mk").read_text().replace("\\\n", " ")
    lists = re.findall(r"^VM_GLOBAL_(?:FAST|SLOW) \+=(.*)$", text, re.MULTILINE)
    return [part for line in lists for part in line.split()]


def run_tool(
    command: list[str],
    folder: Path,
    failure: str,
    environment: dict[str, str] | None = None,
    *,
    seconds: float | None = TOOL_SECONDS,
) -> str:
    """What a program prints.

    Raises:
        VerificationError: if it fails (``failure`` and its last errors), or takes too long.
    """
    try:
        run = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True,
            errors="replace", timeout=seconds,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise VerificationError(f"{failure}: no result after {seconds} s") from error
    _check(run.returncode, run.stdout + run.stderr, failure)
    return run.stdout


def follow_tool(
    command: list[str], folder: Path, failure: str, tell: Callable[[str], None]
) -> None:
    """Run a program, however long, and hand on each line that it prints.

    Raises:
        VerificationError: if it fails (``failure`` and its last errors).
    """
    lines: deque[str] = deque(maxlen=10 * SHOWN_LINES)
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace",
    ) as run:  # fmt: skip
        try:
            assert run.stdout is not None
            for line in run.stdout:
                lines.append(line)
                tell(line)
        except BaseException:
            run.kill()
            raise
    _check(run.returncode, "".join(lines), failure)


def _check(code: int, text: str, failure: str) -> None:
    if code != 0:
        lines = text.strip().splitlines()
        errors = [line for line in lines if "%Error" in line or "error:" in line] or lines
        raise VerificationError("\n".join([f"{failure}:", *errors[-SHOWN_LINES:]]))
