"""Lightning's progress bar with accuracy and speed, and a line an epoch."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import lightning
from lightning.pytorch.callbacks import RichProgressBar
from rich import get_console

from .curve import Curve


class Progress(RichProgressBar):
    """Shows training accuracy and images/s while an epoch runs, and its record after it.

    Args:
        curve: the record.
        every: batches between looks at the accuracy, each of which waits for the device.
    """

    def __init__(self, curve: Curve, every: int = 50) -> None:
        super().__init__(refresh_rate=2)
        self.curve, self.every = curve, every
        self.shown: dict[str, Any] = {}
        self.last = (perf_counter(), 0)

    def get_metrics(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> dict[str, Any]:
        batch = trainer.fit_loop.epoch_loop.total_batch_idx
        before, images = self.last
        if batch % self.every == 0 and self.curve.images > images:
            now = perf_counter()
            self.shown = {
                "accuracy": f"{pl_module.train_accuracy.compute():.1%}",
                "images/s": round((self.curve.images - images) / (now - before)),
            }
            self.last = (now, self.curve.images)
        return self.shown

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self.last = (perf_counter(), 0)
        epoch = self.curve.epochs[-1]
        parts = [f"epoch {epoch.epoch}/{trainer.max_epochs}", f"loss {epoch.train_loss:.4f}"]
        for part in ("train", *pl_module.parts):
            parts.append(f"{part} {getattr(epoch, f'{part}_accuracy'):.2%}")
        parts.append(f"{epoch.images_per_second:.0f} images/s")
        if trainer.is_global_zero:
            get_console().print("  ".join(parts), highlight=False)
