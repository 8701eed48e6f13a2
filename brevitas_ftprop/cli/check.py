"""``brevitas-ftprop check``: what will not map to a target, told before the export."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from . import options
from .outcome import Outcome, finish
from .subject import Subject

if TYPE_CHECKING:
    from ..export.deployable import DeployReport

COLORS = {"error": "bold red", "warning": "bold yellow"}


class Target(StrEnum):
    """What to export to."""

    FINN = "finn"
    HLS4ML = "hls4ml"
    QCDQ = "qcdq"


def check(
    model: options.Model = None,
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            metavar="CHECKPOINT",
            help="State dict to load, strictly and without running code in it.",
        ),
    ] = None,
    run: options.Run = None,
    input_shape: options.Shape = None,
    batch: Annotated[
        Path | None,
        typer.Option(
            help="Images that the model has to take, a folder of image files or a .npy file."
        ),
    ] = None,
    resize: options.Resize = False,
    target: Annotated[Target, typer.Option(help="What to export to.")] = Target.FINN,
    images: options.Images = None,
    pixels: options.Pixels = None,
    mean: options.Normalization = None,
    std: options.Normalization = None,
    result: options.Result = options.ResultKind.LOGITS,
    dynamo: Annotated[
        bool | None,
        typer.Option(
            "--dynamo/--no-dynamo", help="Exporter; the default is that of the target's export."
        ),
    ] = None,
    arg: options.Arguments = None,
    rule: options.Rule = None,
    as_json: options.Json = False,
) -> None:
    """Tell what will not map to a target, why, and what to change; exit code 1 if there are errors.

    Warnings alone exit with 0.
    """

    def work() -> Outcome:
        subject = Subject(
            model=model,
            run=run,
            checkpoint=checkpoint,
            arguments=arg,
            rule=rule,
            shape=input_shape,
            batch=batch,
            resize=resize,
            pixels=pixels,
            mean=mean,
            std=std,
        )
        from ..export import check_deployable

        loaded = subject.load()
        exporter = target is not Target.HLS4ML if dynamo is None else dynamo
        report = check_deployable(
            loaded.model,
            loaded.example,
            target.value,
            **loaded.accelerator(images),
            result=result.value,
            dynamo=exporter,
        )
        findings = [asdict(finding) for finding in report]
        data = {"target": target.value, "untrained": subject.is_untrained, "findings": findings}
        return Outcome(report.ok, data, _shown(report))

    finish(work, as_json=as_json)


def _shown(report: DeployReport) -> RenderableType:
    """Each finding with its reason and remedy, wrapped to the terminal."""
    if not report.findings:
        return Text(f"{report.target}: no findings", style="green")
    counts = f"{len(report.errors)} errors, {len(report.warnings)} warnings"
    parts: list[RenderableType] = [Text(f"{report.target}: {counts}")]
    for finding in report:
        head = Text.assemble(
            (finding.severity, COLORS.get(finding.severity, "bold")),
            f"  {finding.layer}  ",
            (f"[{finding.requirement}] ", "dim"),
            finding.message,
        )
        parts += [
            head,
            Padding(Text(f"why: {finding.why}"), (0, 0, 0, 2)),
            Padding(Text(f"fix: {finding.fix}"), (0, 0, 0, 2)),
        ]
    return Group(*parts)
