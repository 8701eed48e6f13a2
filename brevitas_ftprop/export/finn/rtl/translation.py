"""Translate a node's RTL to C++."""

from __future__ import annotations

from pathlib import Path

from .design import Design
from .dialect import readable
from .toolchain import VERILATOR_FLAGS, verilate, verilator_root

Sources = list[tuple[str, str]]


def texts_of(design: Design) -> tuple[Sources, list[str]]:
    """The RTL's files by name, and what the C++ around it has to know of its ports.

    Designs that differ only in the contents of their parameter files have the same texts, since the
    RTL reads those files when it starts.
    """
    sources = [(file.name, readable(file.read_text())) for file in design.sources]
    defines = ["-DWEIGHTS"] * (design.weights is not None)
    return sources, defines + ["-DCLOCK2X"] * design.doubled_clock


def translate(sources: Sources, folder: Path, *, name: str) -> tuple[Path, Path]:
    """Write the RTL into a folder and let Verilator translate it there.

    Returns:
        The folder of the C++, and that of Verilator's own headers.

    Raises:
        VerificationError: if Verilator fails (names the node, shows why).
    """
    for file, text in sources:
        (folder / file).write_text(text)
    verilate(
        [*VERILATOR_FLAGS, "--Mdir", "cpp", *(file for file, _ in sources)],
        folder,
        f"Verilator cannot build the RTL of {name}",
    )
    return folder / "cpp", verilator_root(folder) / "include"
