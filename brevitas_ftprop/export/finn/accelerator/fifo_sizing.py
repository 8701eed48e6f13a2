"""Size an accelerator's FIFOs without vendor tools."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from numpy.typing import NDArray
from onnx import ModelProto
from qonnx.core.modelwrapper import ModelWrapper
from torch import Tensor

from ...checks import check_path
from ...errors import DamagedFileError
from ...output_file import output_file
from .accelerator_report import AcceleratorReport
from .fifo_search import FRAMES, TRIALS, search
from .network import IN, OUT, Fifo
from .preparation import FOLDING, prepared
from .whole_simulation import check_counts, reported

BUILD, FIFO_DEPTHS = "build.yaml", "fifo_depths.json"


@dataclass(frozen=True)
class FifoSizing:
    """Result of ``size_fifos``.

    Attributes:
        depths: by FIFO.
        report: of the simulation with them.
        fifos: between what they stand.
    """

    depths: dict[str, int]
    report: AcceleratorReport
    fifos: list[Fifo]

    @property
    def bits(self) -> int:
        """What all FIFOs hold together."""
        return sum(self.depths[fifo.name] * fifo.bits for fifo in self.fifos)

    @property
    def ok(self) -> bool:
        """Whether the accelerator gives every frame right with these depths."""
        return self.report.ok

    def as_dict(self) -> dict[str, Any]:
        """The depths and the report, ready for ``json.dumps``."""
        return {**self.report.as_dict(), "depths": self.depths, "bits": self.bits}

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write the depths into a folder of ``export_finn``, where FINN's builder finds them.

        They become ``inFIFODepths`` and ``outFIFODepths`` in ``folding.json``, and
        ``fifo_depths.json``, which ``build.yaml`` then names, so that FINN goes on without its own
        sizing.

        Raises:
            FileNotFoundError, DamagedFileError: if it is no such folder.
        """
        folding, build = check_build_files(folder)
        for fifo in self.fifos:
            ends = ((fifo.producer, OUT, fifo.output), (fifo.consumer, IN, fifo.place))
            for node, side, index in ends:
                # FINN inserts converters later, with depths of their own.
                if node in folding:
                    known = folding[node].setdefault(side, [])
                    known += [2] * (index + 1 - len(known))
                    known[index] = self.depths[fifo.name]
        # What names the others comes last: whatever ends the process, FINN's builder finds them.
        files = {
            FIFO_DEPTHS: json.dumps(
                {
                    "fifo_depths": self.depths,
                    "impl_style": dict.fromkeys(self.depths, "rtl"),
                    "ram_style": dict.fromkeys(self.depths, "auto"),
                },
                indent=2,
            ),
            FOLDING: json.dumps(folding, indent=2),
            BUILD: yaml.safe_dump(
                {**build, "auto_fifo_depths": False, "fifo_config_file": FIFO_DEPTHS},
                sort_keys=False,
            ),
        }
        for name, text in files.items():
            with output_file(Path(folder, name), overwrite=True) as stream:
                stream.write(text.encode())

    def __str__(self) -> str:
        sized = f"{len(self.depths)} FIFOs of {self.bits} bits in all"
        return f"{self.report}\n{sized}, the deepest {max(self.depths.values())}"


def check_build_files(folder: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The folding and the build's settings in a folder into which depths can be written.

    Raises:
        FileNotFoundError: if files of ``export_finn`` are missing (names them).
        DamagedFileError: if one of them holds something else.
        OSError, ValueError: if the file of depths cannot be written there.
    """
    missing = [name for name in (FOLDING, BUILD) if not Path(folder, name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} has no {' and no '.join(missing)}, into which depths are written: pass a "
            "folder of export_finn, or its partition alone"
        )
    found = []
    for name, read in ((FOLDING, json.loads), (BUILD, yaml.safe_load)):
        try:
            settings = read(Path(folder, name).read_text())
        except (ValueError, yaml.YAMLError) as error:
            raise DamagedFileError(f"{Path(folder, name)} cannot be read: {error}") from error
        if not isinstance(settings, dict):
            raise DamagedFileError(f"{Path(folder, name)} holds no settings by name")
        found.append(settings)
    check_path(Path(folder, FIFO_DEPTHS), overwrite=True)
    return found[0], found[1]


def size_fifos(
    partition: str | os.PathLike[str] | ModelWrapper | ModelProto,
    batch: NDArray | Tensor,
    *,
    frames: int = FRAMES,
    pauses: bool = False,
    cycles: int | None = None,
    trials: int = TRIALS,
    cache: str | os.PathLike[str] | None = None,
    hlslib: str | os.PathLike[str] | None = None,
    progress: bool = True,
    fpga_part: str = "xczu7ev-ffvc1156-2-e",
    clock_ns: float = 5.0,
) -> FifoSizing:
    """Depths with which nothing deadlocks, and frames follow each other as with unbounded FIFOs.

    The accelerator runs with unbounded FIFOs, which tells the least interval between frames; again
    with images that come at that interval, which tells how much each FIFO holds; and then as often
    as ``trials`` says with shallower ones, which are kept if frames come no later: first with all
    of them at 2, as FINN inserts them, then with one half, and so on down to single ones.

    Args:
        partition, batch, cache, hlslib, progress, fpga_part, clock_ns: as ``simulate_accelerator``
            takes them.
        frames, pauses: of the simulation with the depths that were found.
        cycles: to simulate at most, each time.
        trials: runs that may be spent on making FIFOs shallower.

    Returns:
        The depths, and a report of the accelerator with them; ``write(folder)`` puts them where
        FINN's builder takes them.

    Raises:
        ValueError: for trials below 0, and as ``simulate_accelerator``.
        VerificationError: as ``simulate_accelerator``, and for an accelerator that deadlocks
            with any FIFOs or gives wrong values.

    References:
        FINN's ``step_set_fifo_depths`` (finn-plus 1.6.1), which needs Vivado.
    """
    check_counts(frames=frames, cycles=cycles)
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 0:
        raise ValueError(f"trials must be an integer of 0 or more, not {trials!r}")
    device = {"fpga_part": fpga_part, "clock_ns": clock_ns}
    tools = {"cache": cache, "hlslib": hlslib, "progress": progress}
    with prepared(partition, batch, **tools, **device) as bench:
        depths = search(bench, cycles=cycles, trials=trials)
        report = reported(
            bench, depths, frames=frames, pauses=pauses, cycles=cycles, clock_ns=clock_ns
        )
    return FifoSizing(depths, report, bench.network.fifos)
