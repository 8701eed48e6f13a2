"""What a check says about a model."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

ERROR = "error"
WARNING = "warning"
WIDTH = 100


@dataclass(frozen=True)
class Finding:
    """One place of a model that breaks one requirement.

    Attributes:
        severity: ``"error"`` (the export fails, or would differ) or ``"warning"``.
        layer: name of the layer or quantizer in the PyTorch model; ``"model"`` for all of it.
        requirement: stable identifier of the requirement.
        message: what is there.
        why: the consequence, and whether the tools report it (loud) or not (silent).
        fix: what to change.

    >>> print(Finding("error", "fc", "last-layer-bias", "a bias", "Loud: float.", "bias=False"))
    error fc [last-layer-bias]: a bias. Loud: float. Fix: bias=False
    """

    severity: str
    layer: str
    requirement: str
    message: str
    why: str
    fix: str

    def __str__(self) -> str:
        what = f"{self.severity} {self.layer} [{self.requirement}]: {self.message}"
        return f"{what}. {self.why} Fix: {self.fix}"


@dataclass(frozen=True)
class DeployReport:
    """The findings of ``check_deployable``, errors first; a sequence of them.

    Attributes:
        target: ``"finn"``, ``"hls4ml"`` or ``"qcdq"``.
        findings: in the order of the requirements, errors first.

    >>> report = DeployReport("finn", ())
    >>> report.ok, len(report), str(report)
    (True, 0, 'finn: no findings')
    """

    target: str
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> list[Finding]:
        """What makes the export fail or differ."""
        return [finding for finding in self.findings if finding.severity == ERROR]

    @property
    def warnings(self) -> list[Finding]:
        """What is worth a look, but is exported."""
        return [finding for finding in self.findings if finding.severity == WARNING]

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __getitem__(self, index: int) -> Finding:
        return self.findings[index]

    def __str__(self) -> str:
        if not self.findings:
            return f"{self.target}: no findings"
        lines = [f"{self.target}: {len(self.errors)} errors, {len(self.warnings)} warnings"]
        for finding in self.findings:
            lines.append(
                f"{finding.severity:<8}{finding.layer}  [{finding.requirement}] {finding.message}"
            )
            for label, text in (("why", finding.why), ("fix", finding.fix)):
                lines += textwrap.wrap(
                    text, WIDTH, initial_indent=f"  {label}: ", subsequent_indent="       "
                )
        return "\n".join(lines)
