"""``brevitas-ftprop quantize``: a float network becomes one that FINN maps."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .outcome import Outcome, finish, note
from .subject import Subject


def quantize(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="PACKAGE.MODULE:FACTORY, or a name of torchvision's."),
    ],
    input_shape: Annotated[tuple, options.SHAPE],
    out: options.Out,
    checkpoint: options.Checkpoint = None,
    arg: options.Arguments = None,
    act: Annotated[str, typer.Option(help="Activations: int2 to int8, sign, staircase3.")] = "int4",
    weight_bits: Annotated[int, typer.Option(help="Of the weights, 1 to 8.")] = 4,
    rule: Annotated[str, typer.Option(help="Target rule of the activations.")] = "soft_hinge",
    weight_rule: Annotated[str, typer.Option(help="Target rule of the weights.")] = "ste",
    weight_scale: Annotated[str, typer.Option(help="One a channel, or a tensor.")] = "channel",
    signed_bits: Annotated[
        int | None, typer.Option(help="Of signed quantizers between layers.")
    ] = None,
    power_of_two: Annotated[bool, typer.Option(help="Let scales be powers of two.")] = False,
    quantize_output: Annotated[bool, typer.Option(help="Quantize the logits to 8 bits.")] = False,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="Images for the ranges, a folder of image files or a .npy file in the model's "
            "layout; random ones if none."
        ),
    ] = None,
    resize: options.Resize = False,
    pixels: options.Pixels = None,
    mean: options.Normalization = None,
    std: options.Normalization = None,
    dynamo: options.Dynamo = True,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Quantize a float network for FINN, and write its state dict.

    Other commands take the network as finn:MODEL with that file; the last line says how.
    """

    def work() -> Outcome:
        import torch

        from ..export.checks import check_path
        from ..export.output_file import output_file
        from ..quantize import quantize_for_finn
        from ..runs.finn_factory import IMAGES, PREFIX
        from ..runs.images import random_images

        target = check_path(out, overwrite=overwrite)
        reference = model if ":" in model else f"torchvision.models:{model}"
        chosen = {
            "act": act,
            "weight_bits": weight_bits,
            "rule": rule,
            "weight_rule": weight_rule,
            "weight_scale": weight_scale,
            "signed_bits": signed_bits,
            "power_of_two": power_of_two,
            "quantize_output": quantize_output,
        }
        loaded = Subject(
            model=reference,
            run=None,
            checkpoint=checkpoint,
            arguments=arg,
            shape=input_shape,
            batch=calibrate,
            resize=resize,
            pixels=pixels,
            mean=mean,
            std=std,
        ).load()
        example, given = loaded.example, loaded.given()
        images = random_images(input_shape, count=IMAGES) if given is None else given
        note("quantizing, and checking that FINN maps it")
        quantized, report = quantize_for_finn(
            loaded.model, example, calibrate=images, dynamo=dynamo, **chosen
        )
        with output_file(target, overwrite=overwrite) as stream:
            torch.save(quantized.state_dict(), stream)
        named = [*(arg or ()), *_arguments(input_shape, chosen)]
        data = {"model": f"{PREFIX}{reference}", "arguments": named, "path": str(out)}
        usage = shlex.join(
            [
                *("brevitas-ftprop", "check", data["model"], str(out)),
                *("--input-shape", ",".join(map(str, (1, *input_shape[1:])))),
                *(word for argument in named for word in ("--arg", argument)),
            ]
        )
        return Outcome(True, data | {"report": report.as_dict()}, f"{report}\n{usage}")

    finish(work, as_json=as_json)


def _arguments(shape: Sequence[int], chosen: dict[str, Any]) -> list[str]:
    """What a ``finn:`` factory is told, as ``"key=value"``; words need no quotes there."""
    from ..quantize.choices import Choices

    defaults = vars(Choices())
    others = {name: value for name, value in chosen.items() if value != defaults[name]}
    named = {"input_shape": tuple(shape), **others}
    return [f"{name}={str(value).replace(' ', '')}" for name, value in named.items()]
