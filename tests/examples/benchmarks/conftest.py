"""The benchmarks are scripts beside each other, with what they share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jsonargparse", reason="needs the extra 'examples'")
pytest.importorskip("matplotlib", reason="needs the extra 'examples'")

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "examples" / "benchmarks"))


@pytest.fixture
def record_of(tmp_path, capsys) -> Callable[..., dict[str, Any]]:
    """Runs a benchmark's main and reads what it writes, checking what every benchmark leaves."""

    def run(script: Any, *argv: str) -> dict[str, Any]:
        name = script.__name__
        assert script.main([*argv, "--out", str(tmp_path)]) == 0
        record = json.loads((tmp_path / f"{name}.json").read_text())
        assert record["benchmark"] == name
        around = record["environment"]
        assert around["threads"] == record["parameters"]["threads"] == 1
        assert around["device"] == around["cpu"]
        assert set(around["versions"]) == {"Python", "brevitas", "brevitas-ftprop", "torch"}
        page = (tmp_path / f"{name}.md").read_text()
        assert "1 thread; Python" in page
        assert capsys.readouterr().out.endswith(page)
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        return record | {"page": page}

    return run


@pytest.fixture
def sentence_of(tmp_path, capsys) -> Callable[..., str]:
    """Runs a benchmark's main with arguments that it refuses, and gives what it says."""

    def run(script: Any, *argv: str) -> str:
        assert script.main([*argv, "--out", str(tmp_path)]) == 2
        assert not list(tmp_path.iterdir())
        *_, line = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{script.__name__}.py: error: ")
        return line

    return run
