"""``brevitas-ftprop export qonnx`` and ``qcdq``: a file, and its proof."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ... import export
from .. import options
from ..checkpoint_given import check_weights
from ..outcome import Outcome, finish, note

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Verify = Annotated[
    bool,
    typer.Option(
        "--verify/--no-verify", help="Compare every integer that the file computes with PyTorch's."
    ),
]


def _command(name: str, purpose: str) -> Callable[..., None]:
    """The command that writes a file in one format."""

    def command(
        model: options.Model,
        input_shape: options.Shape,
        out: options.Out,
        checkpoint: options.Checkpoint = None,
        untrained: options.Untrained = False,
        arg: options.Arguments = None,
        rule: options.Rule = None,
        dynamo: options.Dynamo = True,
        verify: Verify = True,
        batch: options.Batch = None,
        images: options.RandomImages = 8,
        overwrite: options.Overwrite = False,
        as_json: options.Json = False,
    ) -> None:
        def work() -> Outcome:
            check_weights(model, checkpoint, untrained=untrained)
            from ..images import example_for
            from ..loading import load_model

            loaded = load_model(model, arguments=arg or (), rule=rule, checkpoint=checkpoint)
            example = example_for(loaded, input_shape)
            compared = _compared(batch, example, images) if verify else None
            note(f"exporting to {name}")
            write = getattr(export, f"export_{name}")
            path = write(loaded, example, out, dynamo=dynamo, overwrite=overwrite)
            data = {"format": name, "path": str(path), "untrained": untrained}
            return _verified(loaded, path, compared, data)

        finish(work, as_json=as_json)

    command.__doc__ = f"""Write a {purpose}, and verify it.

    A file that differs from the model stays where it is, and the exit code is 1.
    """
    return command


qonnx = _command("qonnx", "QONNX file, for FINN and its relatives")
qcdq = _command("qcdq", "standard ONNX file, for ONNX Runtime")


def _compared(batch: Path | None, example: Tensor, images: int) -> Tensor:
    """Read before the export, so that a wrong file costs no time and leaves nothing behind."""
    from ..images import random_images, read_batch

    if batch is None:
        return random_images(example.shape, count=images)
    given = read_batch(batch)
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
