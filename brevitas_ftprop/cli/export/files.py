"""``brevitas-ftprop export qonnx`` and ``qcdq``: a file, and its proof."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ... import export
from .. import options
from ..outcome import Outcome, finish, note
from ..subject import Subject

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from ..loading import Loaded

Verify = Annotated[
    bool,
    typer.Option(
        "--verify/--no-verify", help="Compare every integer that the file computes with PyTorch's."
    ),
]


def _command(name: str, purpose: str) -> Callable[..., None]:
    """The command that writes a file in one format."""

    def command(
        out: options.Out,
        model: options.Model = None,
        run: options.Run = None,
        input_shape: options.Shape = None,
        checkpoint: options.Checkpoint = None,
        untrained: options.Untrained = False,
        arg: options.Arguments = None,
        rule: options.Rule = None,
        dynamo: options.Dynamo = True,
        verify: Verify = True,
        batch: options.Batch = None,
        resize: options.Resize = False,
        pixels: options.Pixels = None,
        mean: options.Normalization = None,
        std: options.Normalization = None,
        images: options.RandomImages = 8,
        overwrite: options.Overwrite = False,
        as_json: options.Json = False,
    ) -> None:
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
            loaded = subject.load()
            # Before the export, so that a wrong batch costs no time and leaves nothing behind.
            compared = _compared(loaded, images, batch) if verify else None
            note(f"exporting to {name}")
            write = getattr(export, f"export_{name}")
            path = write(loaded.model, loaded.example, out, dynamo=dynamo, overwrite=overwrite)
            data = {"format": name, "path": str(path), "untrained": untrained}
            return _verified(loaded.model, path, compared, data)

        finish(work, as_json=as_json)

    command.__doc__ = f"""Write a {purpose}, and verify it.

    A file that differs from the model stays where it is, and the exit code is 1.
    """
    return command


qonnx = _command("qonnx", "QONNX file, for FINN and its relatives")
qcdq = _command("qcdq", "standard ONNX file, for ONNX Runtime")


def _compared(loaded: Loaded, count: int, batch: Path | None) -> Tensor:
    given, example = loaded.compared(count), loaded.example
    if given.shape[1:] != example.shape[1:] or len(given) % len(example):
        raise ValueError(
            f"{batch} has shape {tuple(given.shape)}, which is no number of batches of "
            f"{tuple(example.shape)}"
        )
    return given


def _verified(model: Module, path: Path, batch: Tensor | None, data: dict[str, Any]) -> Outcome:
    if batch is None:
        return Outcome(True, data | {"verification": None}, f"{path}: written, not verified")
    note(f"verifying on {len(batch)} images")
    report = export.verify_export(model, path, batch)
    verdict = "verified" if report.ok else "DIFFERS from the model"
    return Outcome(
        report.ok, data | {"verification": report.as_dict()}, f"{report}\n{path}: {verdict}"
    )
