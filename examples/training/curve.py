"""The learning curve of a run."""

from __future__ import annotations

from dataclasses import asdict
from time import perf_counter
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from .optimization import lr_factor
from .result import Epoch


class Curve(Callback):
    """Records and logs each epoch; goes on where a checkpoint left off.

    Attributes:
        epochs: of the run so far.
        resumed: how many times it was resumed.
    """

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []
        self.resumed = 0
        self.seconds = 0.0
        self.images = 0
        self.lap: float | None = None

    def on_train_batch_start(self, *_: Any) -> None:
        if self.lap is None:
            self.lap = perf_counter()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self.images += len(batch[1]) * trainer.world_size

    def on_validation_start(self, *_: Any) -> None:
        self._stop()

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        values = {
            "train_loss": float(pl_module.train_loss.compute()),
            "train_accuracy": float(pl_module.train_accuracy.compute()),
        }
        pl_module.train_loss.reset()
        pl_module.train_accuracy.reset()
        for part in pl_module.parts:
            values |= pl_module.evaluation(part)
        # After the metrics, which wait for the device.
        self._stop()
        recipe = pl_module.recipe
        epoch = Epoch(
            epoch=trainer.current_epoch + 1,
            lr=recipe.optimizer.lr
            * lr_factor(recipe.schedule, recipe.epochs, trainer.current_epoch),
            seconds=self.seconds,
            images_per_second=self.images / self.seconds,
            **values,
        )
        self.epochs.append(epoch)
        self.seconds, self.images = 0.0, 0
        logged = {name: value for name, value in asdict(epoch).items() if value is not None}
        pl_module.log_dict({name: float(value) for name, value in logged.items()})

    def _stop(self) -> None:
        if self.lap is not None:
            self.seconds += perf_counter() - self.lap
            self.lap = None

    def state_dict(self) -> dict[str, Any]:
        running = 0.0 if self.lap is None else perf_counter() - self.lap
        return {
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "resumed": self.resumed,
            "seconds": self.seconds + running,
            "images": self.images,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        self.resumed = state["resumed"] + 1
        self.seconds, self.images = state["seconds"], state["images"]
