"""What is minimized."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from brevitas_examples.bnn_pynq.models.losses import SqrHingeLoss
from torch import Tensor
from torch.nn import functional

from .sections import Loss


def build_loss(loss: Loss) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of logits (N, classes) and labels (N,)."""
    if loss.name == "squared_hinge":
        return squared_hinge
    return partial(functional.cross_entropy, label_smoothing=loss.label_smoothing)


def squared_hinge(logits: Tensor, labels: Tensor) -> Tensor:
    """Brevitas' own, against targets of 1 for the label and −1 for every other class."""
    targets = torch.full_like(logits, -1).scatter_(1, labels[:, None], 1)
    return SqrHingeLoss()(logits, targets)
