"""``brevitas-ftprop export finn``: a dataflow partition, every step compared with PyTorch."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from .. import options
from ..outcome import Outcome, finish
from ..subject import Subject


def finn(
    out: options.Out,
    model: options.Model = None,
    run: options.Run = None,
    input_shape: options.Shape = None,
    checkpoint: options.Checkpoint = None,
    untrained: options.Untrained = False,
    arg: options.Arguments = None,
    rule: options.Rule = None,
    fpga_part: options.FpgaPart = "xczu7ev-ffvc1156-2-e",
    target_fps: Annotated[
        int, typer.Option(min=1, help="Frames a second to fold the layers for.")
    ] = 1000,
    clock_ns: options.ClockNs = 5.0,
    batch: options.Batch = None,
    resize: options.Resize = False,
    images: options.Images = None,
    pixels: options.Pixels = None,
    mean: options.Normalization = None,
    std: options.Normalization = None,
    result: options.Result = options.ResultKind.LOGITS,
    dynamo: options.Dynamo = True,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Compile a model to a FINN dataflow partition, every step compared with PyTorch.

    Writes a folder with each step's model, estimates, the files with which FINN's own builder goes
    on, and the report. A run that fails leaves its files in OUT.unfinished.
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
        from ...export import export_finn

        loaded = subject.load()
        report = export_finn(
            loaded.model,
            loaded.example,
            out,
            fpga_part=fpga_part,
            target_fps=target_fps,
            clock_ns=clock_ns,
            batch=loaded.entering(images),
            **loaded.accelerator(images),
            result=result.value,
            dynamo=dynamo,
            untrained=untrained,
            overwrite=overwrite,
        )
        folder = os.path.abspath(out)
        data = {"format": "finn", "path": folder, **report.as_dict()}
        return Outcome(report.ok, data, f"{report}\n{folder}: written")

    finish(work, as_json=as_json)
