"""What an optimizer step costs in time and memory."""

from __future__ import annotations

from statistics import median
from time import perf_counter
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

# Steps between those that are timed, each of which waits for the device; 1 elsewhere.
TIMED_EVERY = {"cuda": 50}


class StepCost(Callback):
    """Times optimizer steps, from their first batch to the end of their last.

    Attributes:
        times: seconds of the steps that were timed since the run started or was resumed.
        peak_bytes: the most that PyTorch held on a GPU by the end of the last of them.
    """

    def __init__(self) -> None:
        self.times: list[float] = []
        self.peak_bytes: int | None = None
        self._start: float | None = None

    @property
    def seconds(self) -> float | None:
        """The median; None where no step was timed."""
        return median(self.times) if self.times else None

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Any, index: int
    ) -> None:
        due = trainer.global_step % TIMED_EVERY.get(module.device.type, 1) == 0
        if due and index % trainer.accumulate_grad_batches == 0:
            _wait(module.device)
            self._start = perf_counter()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        index: int,
    ) -> None:
        if self._start is None or (index + 1) % trainer.accumulate_grad_batches:
            return
        _wait(module.device)
        self.times.append(perf_counter() - self._start)
        self._start = None
        if module.device.type == "cuda":
            self.peak_bytes = torch.cuda.max_memory_allocated(module.device)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
