"""Accuracy as two sums on the device, which no step waits for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class Accuracy(Metric):
    """Share of images whose label is among the ``top`` largest logits.

    >>> accuracy = Accuracy(top=2)
    >>> accuracy.update(torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]), torch.tensor([1, 0]))
    >>> accuracy.compute()
    tensor(0.5000)
    """

    full_state_update = False

    def __init__(self, top: int = 1) -> None:
        super().__init__()
        self.top = top
        for name in ("correct", "wrong"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        if self.top == 1:
            hits = logits.argmax(1) == labels
        else:
            hits = logits.topk(self.top).indices == labels[:, None]
        correct = hits.sum()
        self.correct = self.correct + correct
        self.wrong = self.wrong + (len(labels) - correct)

    def compute(self) -> Tensor:
        seen = self.correct + self.wrong
        return self.correct.float() / seen.float().clamp(min=1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # Older checkpoints hold the four counts of torchmetrics' own accuracy.
        for older, name in (("tp", "correct"), ("fn", "wrong"), ("fp", None), ("tn", None)):
            value = state_dict.pop(f"{prefix}{older}", None)
            if value is not None and name is not None:
                state_dict[f"{prefix}{name}"] = value
        super()._load_from_state_dict(state_dict, prefix, *rest)
