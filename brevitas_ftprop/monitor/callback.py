"""The monitor as a Lightning callback; importing this file imports Lightning."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from .monitor import Monitor, check_sample


class MonitorCallback(Callback):
    """Watches the module that is fitted, and gives every sampled step to the trainer's loggers.

    The metrics are logged as ``target_prop/<quantizer>/<metric>``; in a distributed run those of
    the first process are. Gradients are divided by the scale of a float16 run's loss.

    Args:
        every, units, seed: as for :class:`Monitor`.
        probe: computes the loss of the module on a fixed batch, as
            ``lambda module: loss(module(images), labels)``.

    Attributes:
        monitor: the :class:`Monitor` of the fit that is under way or was last; None before.

    Raises:
        ValueError: for ``every`` or ``units`` that are no positive integers.

    >>> MonitorCallback(every=100).monitor is None
    True
    """

    def __init__(
        self,
        *,
        every: int = 50,
        units: int = 256,
        probe: Callable[[LightningModule], Tensor] | None = None,
        seed: int = 0,
    ):
        check_sample(every, units)
        self.monitor: Monitor | None = None
        self._options = {"every": every, "units": units, "seed": seed}
        self._probe = probe
        self._loss_scale = 1.0
        self._global_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        probe = self._probe
        self._global_step = trainer.global_step
        self.monitor = Monitor(
            pl_module,
            probe=None if probe is None else lambda: probe(pl_module),
            first_step=trainer.global_step,
            **self._options,
        )

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        # The scale of this step's loss; asking for it waits for the device.
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None and self.monitor is not None and self.monitor.sampling:
            self._loss_scale = scaler.get_scale()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Several batches make a step where gradients are accumulated.
        if self.monitor is None or trainer.global_step == self._global_step:
            return
        self._global_step = trainer.global_step
        if self.monitor.step(loss_scale=self._loss_scale) is None:
            return
        scalars = {f"target_prop/{tag}": value for tag, value in self.monitor.scalars().items()}
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self.monitor is not None:
            self.monitor.close()
