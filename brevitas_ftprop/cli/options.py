"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .parsing import parse_numbers, parse_shape


class ResultKind(StrEnum):
    """What a FINN accelerator gives."""

    LOGITS = "logits"
    INTEGERS = "integers"
    CLASS = "class"


def _parser(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    """Have Typer show the message of a value that cannot be read; it drops that of a ValueError."""

    def parsed(value: Any) -> Any:
        try:
            return parse(value) if isinstance(value, str) else value
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    return parsed


Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="PACKAGE.MODULE:FACTORY, or of a torch.nn.Module; or convnet4, brevitas:cnv_1w1a, "
        "torchvision:resnet18, … as train.py knows them. None with --run.",
    ),
]
Run = Annotated[
    Path | None,
    typer.Option(
        "--run",
        metavar="FOLDER",
        help="A training's folder: its model, options, rule, weights, input shape, mean and std.",
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        help="State dict to load, strictly and without running code in it; Lightning's .ckpt, or a "
        "training's folder, too."
    ),
]
Untrained = Annotated[
    bool,
    typer.Option("--untrained", help="Export without a checkpoint: the weights that MODEL gives."),
]
Arguments = Annotated[
    list[str] | None,
    typer.Option(
        "--arg",
        metavar="KEY=VALUE",
        help="Keyword argument of the factory, a Python literal or a word; may be repeated. Of "
        "finn: those that quantize has as options, such as act, weight_bits and rule, are its own, "
        "and do not reach the factory.",
    ),
]
Rule = Annotated[
    str | None,
    typer.Option(
        help="Swap the activation quantizers to this rule before loading; your own is "
        "PACKAGE.MODULE:CLASS, or a name that --import makes known."
    ),
]
Normalization = Annotated[
    tuple | None,
    typer.Option(
        metavar="X,X,X",
        parser=_parser(parse_numbers),
        help="Of uint8 images and image files, (x/255 - mean)/std, one number a channel.",
    ),
]
Images = Annotated[
    str | None,
    typer.Option(
        metavar="[float|uint8|DATATYPE]",
        help="What a FINN accelerator takes: the model's images, pixels (N, H, W, C), or integers "
        "as the model takes them, such as int8 or bipolar; float if none, and uint8 with --run.",
    ),
]
Pixels = Annotated[
    str | None,
    typer.Option(
        metavar="[x/255|x|x/127.5-1]",
        help="What the model sees of a uint8 pixel x, of image files too; x/255 if none.",
    ),
]
Result = Annotated[ResultKind, typer.Option(help="What a FINN accelerator gives.")]
SHAPE = typer.Option(
    "--input-shape",
    metavar="N,C,H,W",
    parser=_parser(parse_shape),
    help="Shape of the model's input, batch size first.",
)
Shape = Annotated[tuple | None, SHAPE]
Batch = Annotated[
    Path | None,
    typer.Option(
        help="Images to compare on, a folder of image files or a .npy file in the model's layout; "
        "random ones if none."
    ),
]
Resize = Annotated[
    bool, typer.Option("--resize", help="Resize image files of another size than the model's.")
]
RandomImages = Annotated[
    int, typer.Option(min=1, help="Number of random images to compare on without --batch.")
]
Out = Annotated[Path, typer.Option("--out", help="Where to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Dynamo = Annotated[
    bool, typer.Option("--dynamo/--no-dynamo", help="Exporter: torch.export or TorchScript.")
]
FpgaPart = Annotated[str, typer.Option(help="FPGA, as Vivado names it.")]
ClockNs = Annotated[float, typer.Option(help="Clock period in nanoseconds.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object to stdout, and nothing else there.")
]
