"""Averaged weights of networks whose quantizers start by collecting statistics."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .quantizer_state import is_collecting, quantizer_counters, set_quantizer_state


class QuantizerAwareEMA(WeightAveraging):
    """An exponential average that starts when every scale is a learned one.

    Until then the average is the newest weights: a scale that jumps from its placeholder to what
    was collected must not be averaged over the jump. Constants such as bit widths, which are
    buffers too, stay exact, as they do not in Lightning's ``EMAWeightAveraging``.

    Args:
        decay: of the average.
    """

    def __init__(self, decay: float) -> None:
        # Interpolates from the average, which leaves equal values as they are.
        super().__init__(multi_avg_fn=get_ema_multi_avg_fn(decay))

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        *args: Any,
    ) -> None:
        average, network = self._average_model, pl_module.network
        if is_collecting(network):
            average.n_averaged.zero_()
        super().on_train_batch_end(trainer, pl_module, *args)
        # Its own quantizers never run, and so never count.
        set_quantizer_state(average.module.network, quantizer_counters(network))
