"""Arguments that many commands share, and what a failed one tells."""

from __future__ import annotations

from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
TINY = ("cli_nets:tiny", "--input-shape", "1,3,8,8")
SMALL = ("cli_nets:small", "--input-shape", "1,4")
FLAGS = ("--no-dynamo", "--images", "2")


def told(result) -> str:
    """The one sentence of a failed command, which printed nothing but that."""
    assert result.stdout == ""
    (sentence,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert "Traceback" not in result.stderr
    return sentence
