"""The monitor as a Lightning callback; importing this file imports Lightning."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from .monitor import Monitor, check_sample
from .probe import check_probe


class MonitorCallback(Callback):
    """Watches the module that is fitted, and gives every sampled step to the trainer's loggers.

    The metrics are logged as ``target_prop/<quantizer>/<metric>``; in a distributed run those of
    the first process are. Gradients are divided by the scale of a float16 run's loss. Loggers of
    TensorBoard get the figure of the history when the fit ends.

    Args:
        every, units, seed: as for :class:`Monitor`.
        probe: a fixed batch ``(images, labels)``, or what computes the loss of the module on one,
            as ``lambda module: loss(module(images), labels)``.

    Attributes:
        monitor: the :class:`Monitor` of the fit that is under way or was last; None before.

    Raises:
        ValueError: for ``every`` or ``units`` that are no positive integers.
        TypeError: for a ``probe`` that is neither a batch nor a function.

    >>> MonitorCallback(every=100).monitor is None
    True
    """

    def __init__(
        self,
        *,
        every: int = 50,
        units: int = 256,
        probe: tuple[Tensor, Tensor] | Callable[[LightningModule], Tensor] | None = None,
        seed: int = 0,
    ):
        check_sample(every, units)
        check_probe(probe)
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
            probe=partial(probe, pl_module) if callable(probe) else probe,
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
        if self.monitor is not None and any(e["layers"] for e in self.monitor.history):
            for logger in trainer.loggers:
                experiment = getattr(logger, "experiment", None)
                if hasattr(experiment, "add_figure"):
                    self.monitor.write_figure(experiment)
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self.monitor is not None:
            self.monitor.close()
