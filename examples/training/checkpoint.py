"""Checkpoints that are whole or not there, and that belong to one recipe."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from brevitas_ftprop.export.output_file import TEMPORARY, output_file
from brevitas_ftprop.runs.own_modules import network_source

from .failures import uninterrupted
from .recipe import Recipe


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the file and renames, and then removes the checkpoint before it.

    Lightning's own way writes to the system's temporary folder, and moving a file from there to
    another file system is a copy, which can be cut off.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with uninterrupted():
            with output_file(path, overwrite=True) as stream:
                torch.save(checkpoint, stream)
            _sync(path.parent)
            keep_only(path)


class WithinEpoch(ModelCheckpoint):
    """After an optimizer step that does not end an epoch.

    A run that goes on from the last step of an epoch would not evaluate it, and one from between
    two steps would lose the gradient accumulated so far.
    """

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_last_batch and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)


class RecipeInCheckpoint(Callback):
    """Keeps the recipe in each checkpoint, as plain values, and a hash of its network's source."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        # Now: the file may be another before the first checkpoint.
        self.source = network_source(self.recipe.model)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint |= {"recipe": self.recipe.to_dict(), "source": self.source}


def checkpoint_callbacks(folder: Path, every: int | None) -> list[Callback]:
    """A checkpoint after each epoch and, with ``every``, within one; the newest is kept."""
    options = {"dirpath": folder, "auto_insert_metric_name": False, "enable_version_counter": False}
    callbacks: list[Callback] = [
        ModelCheckpoint(filename="{step:08d}-epoch", save_on_train_epoch_end=True, **options)
    ]
    if every is not None:
        callbacks.append(
            WithinEpoch(filename="{step:08d}-batch", every_n_train_steps=every, **options)
        )
    return callbacks


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is complete; None if there is none.

    A file that was cut off, or whose bytes changed, is passed over.
    """
    # Of one step, "epoch" comes after "batch".
    for path in sorted(folder.glob("*.ckpt"), reverse=True):
        if _is_complete(path):
            return path
    return None


def keep_only(path: Path) -> None:
    """Remove the checkpoints beside one, whole or cut off."""
    for other in (*path.parent.glob("*.ckpt"), *path.parent.glob(f"{TEMPORARY}*")):
        if other != path:
            other.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's contents, read without running code."""
    return torch.load(path, map_location="cpu", mmap=True, weights_only=True)


def _sync(folder: Path) -> None:
    """Have a new name on the disk before an old one goes."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_complete(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError):
        return False
