"""What a check leaves behind: ``report.json`` with all of it, and ``report.md`` to be read."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PASSED, FAILED, SKIPPED, LEFT = "passed", "failed", "skipped", "not reached"
# Of a traceback in Markdown; JSON has all of it.
LINES = 12
# Of the failures that Markdown lists and shows.
LISTED = 30


@dataclass
class PartReport:
    """What a part has told so far.

    Attributes:
        state: ``passed``, ``failed``, ``skipped`` or ``not reached``.
        tables: title → rows, each of column → value.
        notes: sentences.
        failures: each with ``case``, ``error`` and ``traceback``.
        skipped: case → why it cannot be here.
        left_out: cases that there was no time for.
    """

    name: str
    title: str
    state: str = LEFT
    seconds: float = 0.0
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def take(self, event: dict[str, Any]) -> None:
        """Note what a worker has told."""
        kind = event["event"]
        if kind == "row":
            self.tables.setdefault(event["table"], []).append(event["row"])
        elif kind == "note":
            self.notes.append(event["text"])
        elif kind == "failure":
            self.fail(event["case"], event["error"], event["traceback"])
        elif kind == "skipped":
            self.skipped[event["case"]] = event["why"]
        elif kind == "left_out":
            self.left_out.append(event["case"])

    def fail(self, case: str, error: str, traceback: str = "") -> None:
        self.state = FAILED
        self.failures.append({"case": case, "error": error, "traceback": traceback})

    def markdown(self) -> str:
        """The part's section."""
        parts = [f"## {self.title}", f"{self.state.capitalize()}, {self.seconds:.0f} s."]
        for title, rows in self.tables.items():
            parts += [f"**{title}**", table(rows)]
        parts += self.notes
        if self.skipped:
            parts.append(bullets(f"{case}: {why}" for case, why in self.skipped.items()))
        if self.left_out:
            parts.append(f"No time was left for: {'; '.join(self.left_out)}.")
        return "\n\n".join(parts)


@dataclass
class Report:
    """All parts, what they ran on and how the check was called."""

    parameters: dict[str, Any]
    parts: list[PartReport]
    around: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether something ran, and all that ran has passed."""
        states = {part.state for part in self.parts}
        return FAILED not in states and PASSED in states

    def write(self, folder: Path) -> None:
        """Write both files; each is whole at any time."""
        for name, text in (
            ("report.json", json.dumps(asdict(self), indent=1)),
            ("report.md", self.markdown()),
        ):
            # By hand: the supervisor starts without the package, whose import may be what fails.
            partial = folder / f"{name}.partial"
            partial.write_text(text + "\n")
            os.replace(partial, folder / name)

    def markdown(self) -> str:
        """What failed, then every part, then the tracebacks."""
        device = self.around.get("device", self.parameters["device"])
        failures = [(part, failure) for part in self.parts for failure in part.failures]
        shown = failures[:LISTED]
        sections = [f"# GPU check: {device}", self._summary()]
        if failures:
            sections += [
                "**Failed**",
                bullets(f"{part.name}, {f['case']}: {brief(f['error'])}" for part, f in shown),
            ]
        if len(failures) > LISTED:
            sections.append(f"… and {len(failures) - LISTED} more, which report.json has.")
        sections += [part.markdown() for part in self.parts]
        if failures:
            sections.append("## Tracebacks")
            for part, failure in shown:
                last = "\n".join(failure["traceback"].rstrip().splitlines()[-LINES:])
                sections.append(f"{part.name}, {failure['case']}:\n\n```\n{last}\n```")
        return "\n\n".join(sections)

    def _summary(self) -> str:
        by_state: dict[str, list[str]] = {}
        for part in self.parts:
            by_state.setdefault(part.state, []).append(part.name)
        states = "; ".join(f"{state}: {', '.join(names)}" for state, names in by_state.items())
        return f"{states}. {self.seconds:.0f} s of {60 * self.parameters['minutes']:.0f}."


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of rows that need not all have all columns.

    >>> print(table([{"size": 10, "ms": 0.123456}, {"size": 20}]))
    | size | ms |
    | --- | --- |
    | 10 | 0.1235 |
    | 20 |  |
    """
    header = list(dict.fromkeys(column for row in rows for column in row))
    lines = [header, ["---"] * len(header)]
    lines += [[_text(row.get(column)) for column in header] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bullets(lines: Any) -> str:
    return "\n".join(f"- {line}" for line in lines)


def brief(error: str) -> str:
    """The first line of what an exception says, since it stands in a list."""
    first = error.strip().partition("\n")[0]
    return first if len(first) <= 200 else f"{first[:200]} …"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")
