"""A recipe's network as Lightning trains it."""

from __future__ import annotations

from functools import partial
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from brevitas_ftprop import advance_rules

from .failures import TrainingError, first_non_finite
from .losses import build_loss
from .metrics import Accuracy
from .optimization import build_optimizer, lr_factor
from .quantizer_state import (
    carry_quantizer_state,
    quantizer_counters,
    quantizer_state,
    set_quantizer_state,
)
from .recipe import Recipe

# Steps between looks at whether all is finite, each of which waits for the device; 1 elsewhere.
FINITE_EVERY = {"cuda": 100}


class Classifier(lightning.LightningModule):
    """A network, its loss and its metrics.

    Args:
        network: to train.
        recipe: how.
        classes: number of logits.
        steps: optimizer steps of an epoch.
        parts: names of the sets that the validation loop evaluates, in its loaders' order.
        finite_every: steps between looks at whether loss and gradient are finite; None for
            ``FINITE_EVERY`` of the device.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        classes: int,
        steps: int,
        parts: list[str],
        *,
        finite_every: int | None = None,
    ) -> None:
        super().__init__()
        self.network, self.recipe, self.steps, self.parts = network, recipe, steps, parts
        self.finite_every = finite_every
        self.loss = build_loss(recipe.loss)
        self.batch: tuple[Tensor, Tensor] | None = None
        self.train_loss, self.train_accuracy = MeanMetric(nan_strategy="disable"), Accuracy()
        # An epoch's loss goes on after a resume in its midst; of several devices, the first one's
        # part of what came before stands for all.
        self.train_loss.persistent(True)
        self.train_accuracy.persistent(True)
        evaluated, top = ("validation", "test"), min(5, classes)
        self.top1 = nn.ModuleDict({part: Accuracy() for part in evaluated})
        self.top5 = nn.ModuleDict({part: Accuracy(top) for part in evaluated})
        self.tested: dict[str, float] = {}
        self.loaded_extra_state: dict[str, Any] = {}
        carry_quantizer_state(self, "network")

    def get_extra_state(self) -> dict[str, Any]:
        return quantizer_state(self.network)

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.loaded_extra_state = state

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def on_train_start(self) -> None:
        if self.finite_every is None:
            self.finite_every = FINITE_EVERY.get(self.device.type, 1)
        # Walking over all modules takes the host as long as a small layer.
        self.learned = list(self.network.parameters())
        # A run that goes on in the midst of an epoch does not start one.
        self.on_train_epoch_start()

    def on_train_epoch_start(self) -> None:
        advance_rules(self.network, self.current_epoch / self.recipe.epochs)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        # Dropout, too, depends on seed and step alone.
        key = [self.recipe.seed, self.current_epoch, batch_idx, self.global_rank]
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        # torch.manual_seed would queue a call for each kind of device that is not in use.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        images, labels = batch
        logits = self.network(images)
        loss = self.loss(logits, labels)
        self.batch = batch
        if self._is_due() and not bool(torch.isfinite(loss.detach())):
            self._tell_non_finite("loss")
        self.train_loss.update(loss.detach())
        self.train_accuracy.update(logits.detach(), labels)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # Under a loss scaler an infinite gradient is skipped, and the scale lowered.
        if not self._is_due() or self.recipe.precision == "fp16":
            return
        gradients = [p.grad for p in self.learned if p.grad is not None]
        if not bool(torch.isfinite(nn.utils.get_total_norm(gradients))):
            self._tell_non_finite("gradient")

    def on_validation_start(self) -> None:
        self.counters = quantizer_counters(self.network)

    def on_validation_end(self) -> None:
        # Delayed quantizers also count the batches that they are only evaluated on.
        set_quantizer_state(self.network, self.counters)

    def validation_step(
        self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._evaluate(self.parts[dataloader_idx], *batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("test", *batch)

    def on_test_epoch_end(self) -> None:
        self.tested = self.evaluation("test")

    def _evaluate(self, part: str, images: Tensor, labels: Tensor) -> None:
        logits = self.network(images)
        if len(labels):
            self.top1[part].update(logits, labels)
            self.top5[part].update(logits, labels)

    def evaluation(self, part: str) -> dict[str, float]:
        """Top-1 and top-5 accuracy since the last call, over all devices."""
        values = {}
        for name, metric in (("accuracy", self.top1[part]), ("top5", self.top5[part])):
            values[f"{part}_{name}"] = float(metric.compute())
            metric.reset()
        return values

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = build_optimizer(self.network, self.recipe.optimizer)
        if self.recipe.clip_weights:
            # Within the step, before anything looks at its weights.
            optimizer.register_step_post_hook(lambda *_: self.network.clip_weights(-1, 1))
        factor = partial(lr_factor, self.recipe.schedule, self.recipe.epochs)
        schedule = LambdaLR(optimizer, lambda step: factor(step / self.steps))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _is_due(self) -> bool:
        return self.global_step % self.finite_every == 0

    def _tell_non_finite(self, what: str) -> None:
        images, labels = self.batch
        with self.trainer.precision_plugin.train_step_context():
            where = first_non_finite(self.network, images, lambda out: self.loss(out, labels))
        raise TrainingError(
            f"the {what} is not finite in step {self.global_step + 1} (epoch "
            f"{self.current_epoch + 1}): {where}; lower optimizer.lr, or raise "
            "schedule.warmup_epochs"
        )
