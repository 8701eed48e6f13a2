"""The model and the images that a command names."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import Module

from ..convert import swap_quantizers
from ..export.accelerator_io import FLOAT, PIXELS, checked_io
from ..export.checks import check_finite
from ..runs.checkpoint import load_checkpoint
from ..runs.image_files import Fit, image_files, left_out, read_images, shape_of
from ..runs.images import checked_example, random_images, read_batch
from ..runs.named_models import build_named
from ..runs.own_modules import own_part
from ..runs.run_folder import LoadedRun, load_run
from .outcome import note
from .subject import Subject

# Text that needs no quotes: names, paths, versions.
WORD = re.compile(r"[A-Za-z_./~][\w./~-]*")


@dataclass(frozen=True)
class Loaded:
    """A model in evaluation mode, and what it is run on.

    Attributes:
        model: with its weights.
        shape: of its input.
        normalization: what it sees of a pixel, as ``export_finn`` takes it.
        is_run: whether a run told that.
        batch: what was read, None if nothing: bytes of shape (N, C, H, W) from image files, or the
            array of a file.
        files: the image files, in the batch's order.
    """

    model: Module
    shape: tuple[int, ...]
    normalization: dict[str, Any]
    is_run: bool
    batch: Tensor | None
    files: Sequence[Path]

    @cached_property
    def example(self) -> Tensor:
        """An input that the model can take: of the image files, or a random one.

        Raises:
            ValueError: if it cannot.
        """
        example = random_images(self.shape, count=self.shape[0])
        if self.files and self._is_told and len(self.files) >= len(example):
            example = self.seen()[: len(example)]
        return checked_example(self.model, example)

    @property
    def _is_told(self) -> bool:
        return any(value is not None for value in self.normalization.values())

    def compared(self, count: int) -> Tensor:
        """The batch as the model sees it, or else so many random images.

        Raises:
            ValueError: for image files of which nobody told what the model sees of their pixels,
                and where that is told of nothing.
        """
        given = self.given()
        return random_images(self.shape, count=count) if given is None else given

    def given(self) -> Tensor | None:
        """The batch as the model sees it; None if there is none.

        Raises:
            ValueError: as ``compared`` does.
        """
        if self.files:
            return self.seen()
        if self._is_told and not self.is_run:
            raise ValueError(
                "--pixels, --mean and --std are of image files here: pass their folder"
            )
        return self.batch

    def seen(self) -> Tensor:
        """What the model sees of the image files.

        Raises:
            ValueError: if nobody told that.
        """
        if self.batch is None or not self._is_told:
            raise ValueError(
                "what the model sees of a pixel x of image files has to be told: --pixels x/255, "
                "or --mean and --std of (x/255 - mean)/std"
            )
        return checked_io(PIXELS, "logits", **self.normalization, example=self.batch).seen(
            self.batch
        )

    def accelerator(self, images: str | None) -> dict[str, Any]:
        """What ``export_finn`` and ``check_deployable`` are told of the images.

        Args:
            images: as the user gave it; if None, pixels of a run, and the model's own of others.
        """
        kind = self._kind(images)
        # Of a run, and of image files, it is known anyway.
        is_known = self.is_run or (self.files and kind.lower() == FLOAT)
        return {"images": kind} | (
            {} if is_known and kind.lower() != PIXELS else self.normalization
        )

    def entering(self, images: str | None) -> Tensor | None:
        """The batch as it enters such an accelerator; None if there is none."""
        is_float = self._kind(images).lower() == FLOAT
        return self.seen() if is_float and self.files else self.batch

    def _kind(self, images: str | None) -> str:
        return images or (PIXELS if self.is_run else FLOAT)


def load(subject: Subject) -> Loaded:
    """Build the model that a command names, with its weights, and read the images.

    Raises:
        ImportError: if a module needs a package that is not installed.
        TypeError, ValueError: for a model, argument, rule, checkpoint, run, shape or batch that
            does not fit, code of the user's that fails (says where), or weights that are not
            finite.
        OSError: if something cannot be read.
    """
    run = None if subject.run is None else load_run(subject.run, checkpoint=subject.checkpoint)
    files = image_files(subject.batch) if subject.batch and subject.has_image_files else []
    batch = read_batch(subject.batch) if subject.batch and not files else None
    shape = subject.shape or (run and run.shape)
    if shape is None and files:
        shape = (1, *shape_of(files[0]))
    elif shape is None and batch is not None:
        shape = (1, *batch.shape[1:])
    if shape is None:
        raise ValueError("pass the shape of the model's input as --input-shape, 1,3,32,32")
    if files and subject.batch:
        batch = read_images(files, _fit(shape, subject.resize, run))
        if others := left_out(subject.batch):
            note(others)
    if run is None:
        if subject.model is None:
            raise ValueError("name a MODEL, or the folder of a training by --run")
        normalization = {"pixels": subject.pixels, "mean": subject.mean, "std": subject.std}
        model = load_model(
            subject.model,
            arguments=subject.arguments or (),
            rule=subject.rule,
            checkpoint=subject.checkpoint,
            shape=shape,
        )
    else:
        normalization = {"pixels": None, "mean": run.mean, "std": run.std}
        model = run.model
    return Loaded(model, shape, normalization, run is not None, batch, files)


def load_model(
    reference: str,
    *,
    arguments: Sequence[str] = (),
    rule: str | None = None,
    checkpoint: Path | None = None,
    shape: Sequence[int] = (),
) -> Module:
    """Build a model, convert its quantizers if asked to, and load its checkpoint.

    Factories run with torch's seed at 0, so that a model without a checkpoint is the same one in
    every run.

    Args:
        reference: see ``build_named``.
        arguments: of the model, as ``"key=value"``.
        rule: what to swap the activation quantizers to; see ``own_part``.
        checkpoint: see ``load_checkpoint``.
        shape: of its input, for models that are built for one.

    Returns:
        The model in evaluation mode.

    Raises:
        ImportError: if the module needs a package that is not installed.
        TypeError, ValueError: for a reference, argument, rule or checkpoint that does not fit, code
            of the user's that fails (says where), or weights that are not finite.
        OSError: if the checkpoint cannot be read.
    """
    options = dict(map(_argument, arguments))
    model = build_named(reference, options, shape=shape, options_by="--arg")
    if rule is not None:
        spec, _ = own_part(rule)
        note(str(swap_quantizers(model, spec)).partition("\n")[0])
    if checkpoint is not None:
        load_checkpoint(model, checkpoint)
    check_finite(model)
    return model.eval()


def _fit(shape: Sequence[int], resize: bool, run: LoadedRun | None) -> Fit:
    if len(shape) != 4:
        raise ValueError(f"image files are for a model of images (N, C, H, W), not {tuple(shape)}")
    channels, *size = shape[1:]
    data = {} if run is None else run.recipe["data"]
    resized = resize or bool(data.get("resized"))
    short_side = data["resize"] if data.get("name") == "imagenet" else None
    return Fit(channels, (size[0], size[1]), resized, short_side)


def _argument(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not (equals and key.isidentifier()):
        raise ValueError(f"write --arg key=value, not {text!r}")
    try:
        return key, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        if WORD.fullmatch(value):
            return key, value
        raise ValueError(
            f"the value of --arg {text} is neither a Python literal nor a word"
        ) from None
