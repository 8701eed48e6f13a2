"""Statistics that are equal on all devices."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback


class AverageStatistics(Callback):
    """Averages every floating-point buffer over the devices after each batch.

    DDP averages gradients, but each device collects batch norm's and the quantizers' running
    statistics from its own images; at best rank 0's are kept. A running average is linear in what
    it averages, so that the mean over devices is the running average of the devices' mean.
    """

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any
    ) -> None:
        if trainer.world_size == 1:
            return
        buffers = [b for b in pl_module.network.buffers() if b.is_floating_point()]
        if not buffers:
            return
        flat = torch.cat([buffer.reshape(-1).float() for buffer in buffers])
        flat = trainer.strategy.reduce(flat, reduce_op="mean")
        parts = flat.split([buffer.numel() for buffer in buffers])
        for buffer, part in zip(buffers, parts, strict=True):
            buffer.copy_(part.view_as(buffer))
