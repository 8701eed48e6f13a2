"""``brevitas-ftprop verify``: whether a file computes what a model does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..export.errors import VerificationError
from . import options
from .outcome import Outcome, finish, note


def verify(
    file: Annotated[Path, typer.Argument(help="QONNX or QCDQ file that export wrote.")],
    model: options.Model,
    checkpoint: options.Checkpoint = None,
    arg: options.Arguments = None,
    rule: options.Rule = None,
    batch: options.Batch = None,
    images: options.RandomImages = 8,
    as_json: options.Json = False,
) -> None:
    """Compare every integer that an exported file computes with the model's; 1 if one differs."""

    def work() -> Outcome:
        from ..export import verify_export
        from ..export.verification.cut_graphs import input_shape, load_tagged
        from .images import random_images, read_batch
        from .loading import load_model

        graph, _ = load_tagged(file)
        loaded = load_model(model, arguments=arg or (), rule=rule, checkpoint=checkpoint)
        if batch is None:
            compared = random_images(input_shape(graph), count=images)
        else:
            compared = read_batch(batch)
        note(f"verifying on {len(compared)} images")
        try:
            report = verify_export(loaded, file, compared)
        except VerificationError:
            raise
        except RuntimeError as error:
            # Of the model's own code.
            reason = str(error).partition("\n")[0]
            raise ValueError(f"{model} cannot run on these images: {reason}") from error
        return Outcome(report.ok, {"path": str(file), **report.as_dict()}, str(report))

    finish(work, as_json=as_json)
