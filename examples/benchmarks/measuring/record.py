"""What a benchmark leaves behind: its rows, and all that they depend on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

import brevitas_ftprop
from brevitas_ftprop.export.output_file import output_file
from brevitas_ftprop.export.tables import markdown_table
from brevitas_ftprop.provenance import device_name, processor, versions


@dataclass(frozen=True, kw_only=True)
class Record:
    """A finished benchmark.

    Attributes:
        benchmark: its name.
        parameters: every option, defaults included.
        environment: see :func:`environment`.
        rows: one for each line of the table; times in seconds, sizes in bytes.
    """

    benchmark: str
    parameters: dict[str, Any]
    environment: dict[str, Any]
    rows: list[dict[str, Any]]

    def publish(self, folder: Path, table: str, text: str, figure: Figure) -> None:
        """Print the table, and write it, the figure and the record itself.

        Args:
            folder: takes ``<benchmark>.json``, which is whole or not there, ``.md`` and ``.png``.
            table: Markdown.
            text: what was measured, for the sentence below the table.
            figure: of the rows.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.benchmark}.json"
        with output_file(path, overwrite=True) as stream:
            stream.write(f"{json.dumps(asdict(self), indent=1)}\n".encode())
        page = f"{table}\n\n{self.caption(text)}"
        path.with_suffix(".md").write_text(page + "\n")
        figure.savefig(path.with_suffix(".png"), dpi=120)
        print(page)

    def caption(self, text: str) -> str:
        """The sentence below a table: what was timed, then on what."""
        at = self.environment
        threads = "1 thread" if at["threads"] == 1 else f"{at['threads']} threads"
        where = f"{at['device']} ({at['capability']}), {threads}"
        if at["device"] != at["cpu"]:
            where += f", {at['cpu']}"
        versions = ", ".join(f"{name} {value}" for name, value in at["versions"].items())
        return f"{text} {where}; {versions}; load average at the start {at['load_average']:.1f}."


def environment(device: torch.device) -> dict[str, Any]:
    """Device, processor, threads, versions, how busy the machine is, and when."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        capability = f"sm_{major}{minor}"
    else:
        capability = torch.backends.cpu.get_cpu_capability()
    return {
        "device": device_name(device),
        "capability": capability,
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": {
            "Python": platform.python_version(),
            "brevitas-ftprop": brevitas_ftprop.__version__,
            **versions("brevitas", "torch"),
        },
        "load_average": os.getloadavg()[0],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """A Markdown table of rows, each of title → text."""
    return "\n".join(markdown_table(list(rows[0]), [list(row.values()) for row in rows]))
