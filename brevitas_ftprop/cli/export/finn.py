"""``brevitas-ftprop export finn``: a dataflow partition, every step compared with PyTorch."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from .. import options
from ..checkpoint_given import check_weights
from ..outcome import Outcome, finish


def finn(
    model: options.Model,
    input_shape: options.Shape,
    out: options.Out,
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
    images: options.Images = "float",
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
        check_weights(model, checkpoint, untrained=untrained)
        from ...export import export_finn
        from ..images import example_for, read_batch
        from ..loading import load_model

        loaded = load_model(model, arguments=arg or (), rule=rule, checkpoint=checkpoint)
        report = export_finn(
            loaded,
            example_for(loaded, input_shape),
            out,
            fpga_part=fpga_part,
            target_fps=target_fps,
            clock_ns=clock_ns,
            batch=None if batch is None else read_batch(batch),
            images=images,
            pixels=pixels,
            mean=mean,
            std=std,
            result=result.value,
            dynamo=dynamo,
            overwrite=overwrite,
        )
        folder = os.path.abspath(out)
        data = {"format": "finn", "path": folder, "untrained": untrained, **report.as_dict()}
        return Outcome(report.ok, data, f"{report}\n{folder}: written")

    finish(work, as_json=as_json)
