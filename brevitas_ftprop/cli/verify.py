"""``brevitas-ftprop verify``: whether a file computes what a model does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..export.errors import VerificationError
from . import options
from .outcome import Outcome, finish, note
from .subject import Subject


def verify(
    file: Annotated[Path, typer.Argument(help="QONNX or QCDQ file that export wrote.")],
    model: options.Model = None,
    run: options.Run = None,
    checkpoint: options.Checkpoint = None,
    arg: options.Arguments = None,
    rule: options.Rule = None,
    batch: options.Batch = None,
    resize: options.Resize = False,
    pixels: options.Pixels = None,
    mean: options.Normalization = None,
    std: options.Normalization = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Classes of --batch, for the file's own accuracy: a .npy file, or the folder "
            "whose subfolders are the classes."
        ),
    ] = None,
    images: options.RandomImages = 8,
    as_json: options.Json = False,
) -> None:
    """Compare every integer that an exported file computes with the model's; 1 if one differs."""

    def work() -> Outcome:
        if labels is not None and batch is None:
            raise ValueError("--labels are those of --batch: pass the images too")
        from ..export import verify_export
        from ..export.verification.cut_graphs import input_shape, load_tagged
        from .accuracy import accuracy_of, labels_for

        graph, _ = load_tagged(file)
        subject = Subject(
            model=model,
            run=run,
            checkpoint=checkpoint,
            arguments=arg,
            rule=rule,
            shape=input_shape(graph),
            batch=batch,
            resize=resize,
            pixels=pixels,
            mean=mean,
            std=std,
        )
        loaded = subject.load()
        compared = loaded.compared(images)
        counted = labels and labels_for(graph, labels, loaded.files, compared)
        note(f"verifying on {len(compared)} images")
        try:
            report = verify_export(loaded.model, file, compared)
        except VerificationError:
            raise
        except RuntimeError as error:
            # Of the model's own code.
            reason = str(error).partition("\n")[0]
            raise ValueError(f"{model or run} cannot run on these images: {reason}") from error
        data, shown = {"path": str(file), **report.as_dict()}, str(report)
        if counted is not None:
            accuracy = accuracy_of(graph, loaded.model, compared, counted)
            data |= {"accuracy": accuracy.as_dict()}
            shown += f"\n{accuracy}"
        return Outcome(report.ok, data, shown)

    finish(work, as_json=as_json)
