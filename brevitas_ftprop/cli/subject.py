"""The model that a command is about, and the images it is run on, as the user named them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loading import Loaded


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a command was told of its model.

    Args:
        model: its name, or None where ``run`` is given.
        run: folder of a training.
        checkpoint: its weights.
        untrained: whether it was said that there are none; None for a command that does not ask.
        arguments: of the model's factory, as ``"key=value"``.
        rule: what to swap the activation quantizers to.
        shape: of its input.
        batch: file or folder of images.
        resize: whether images of another size are resized.
        pixels, mean, std: what the model sees of a pixel.

    Raises:
        ValueError: for options that contradict each other, or leave open what is meant; before
            anything heavy is imported.
    """

    model: str | None
    run: Path | None
    checkpoint: Path | None = None
    untrained: bool | None = None
    arguments: Sequence[str] | None = None
    rule: str | None = None
    shape: tuple[int, ...] | None = None
    batch: Path | None = None
    resize: bool = False
    pixels: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.run is not None:
            self._refuse_what_a_run_tells()
        elif self.model is None:
            raise ValueError("name a MODEL, or the folder of a training by --run")
        elif self.checkpoint is not None and self.untrained:
            raise ValueError("--checkpoint and --untrained exclude each other: pass one of them")
        elif self.checkpoint is None and self.untrained is False:
            raise ValueError(
                f"no --checkpoint was given, so that the weights are those that {self.model} "
                "gives: pass --checkpoint FILE, --run FOLDER, or --untrained if that is meant"
            )
        if self.resize and not self.has_image_files:
            raise ValueError("--resize is of image files: pass their folder")

    @property
    def has_image_files(self) -> bool:
        """Whether the batch is a folder."""
        return self.batch is not None and self.batch.is_dir()

    @property
    def is_untrained(self) -> bool:
        """Whether the weights are those that the model's code gives."""
        return self.run is None and self.checkpoint is None

    def load(self) -> Loaded:
        """Build the model and read the images; see ``Loaded``."""
        from .loading import load

        return load(self)

    def _refuse_what_a_run_tells(self) -> None:
        told: dict[str, Any] = {
            f"the model {self.model}": self.model,
            "--arg": self.arguments,
            "--rule": self.rule,
            "--untrained": self.untrained,
            "--pixels": self.pixels,
            "--mean": self.mean,
            "--std": self.std,
        }
        for name, value in told.items():
            if value:
                raise ValueError(f"{name} and --run exclude each other: {self.run} tells it")
