"""``brevitas-ftprop export hls4ml``: an HLS project whose C simulation is compared with PyTorch."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .. import options
from ..outcome import Outcome, finish, note
from ..subject import Subject


class IoType(StrEnum):
    """How layers hand on their data."""

    STREAM = "io_stream"
    PARALLEL = "io_parallel"


class Strategy(StrEnum):
    """How sums are implemented."""

    LATENCY = "latency"
    RESOURCE = "resource"


def hls4ml(
    out: options.Out,
    model: options.Model = None,
    run: options.Run = None,
    input_shape: options.Shape = None,
    checkpoint: options.Checkpoint = None,
    untrained: options.Untrained = False,
    arg: options.Arguments = None,
    rule: options.Rule = None,
    fpga_part: options.FpgaPart = "xcu250-figd2104-2L-e",
    clock_ns: options.ClockNs = 5.0,
    io_type: Annotated[IoType, typer.Option(help="How layers hand on their data.")] = IoType.STREAM,
    strategy: Annotated[
        Strategy, typer.Option(help="How hls4ml implements sums.")
    ] = Strategy.LATENCY,
    reuse_factor: Annotated[
        int, typer.Option(min=1, help="How often a multiplier is used for one sum.")
    ] = 1,
    batch: Annotated[
        Path | None,
        typer.Option(
            help="Images to compare on beside random ones, a folder of image files or a .npy file."
        ),
    ] = None,
    resize: options.Resize = False,
    pixels: options.Pixels = None,
    mean: options.Normalization = None,
    std: options.Normalization = None,
    dynamo: options.Dynamo = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Write an hls4ml project and compare its C simulation, compiled with g++, with PyTorch.

    A project that differs from the model stays where it is, and the exit code is 1.
    """

    def work() -> Outcome:
        subject = Subject(
            model=model,
            run=run,
            checkpoint=checkpoint,
            untrained=untrained,
            arguments=arg,
            rule=rule,
            shape=input_shape,
            batch=batch,
            resize=resize,
            pixels=pixels,
            mean=mean,
            std=std,
        )
        from ...export import export_hls4ml

        loaded = subject.load()
        given = loaded.given()
        note("exporting to hls4ml and compiling its simulation")
        report = export_hls4ml(
            loaded.model,
            loaded.example,
            out,
            batch=given,
            part=fpga_part,
            clock_ns=clock_ns,
            io_type=io_type.value,
            strategy=strategy.value,
            reuse_factor=reuse_factor,
            dynamo=dynamo,
            untrained=untrained,
            overwrite=overwrite,
        )
        data = {"format": "hls4ml", "path": str(report.folder)}
        data |= report.as_dict()
        return Outcome(report.ok, data, str(report))

    finish(work, as_json=as_json)
