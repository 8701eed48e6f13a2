"""A training step of a whole network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .peak import peak_bytes
from .timing import Mark, Sample, laps


class Step:
    """A training step of one network on one batch: forward, loss, backward and SGD with momentum.

    Args:
        network: to train; it is moved to where the images are.
        images, labels: the batch.
        precision: ``"32"`` or ``"bf16"``.
        channels_last: whether images and weights are laid out so.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Tensor,
        labels: Tensor,
        precision: str,
        *,
        channels_last: bool = False,
    ) -> None:
        form = torch.channels_last if channels_last else torch.preserve_format
        self.device = images.device
        self.network = network.to(self.device, memory_format=form).train()
        self.images, self.labels = images.to(memory_format=form), labels
        self.autocast = torch.autocast(
            self.device.type, torch.bfloat16, enabled=precision == "bf16"
        )
        self.optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

    def __call__(self, mark: Mark = lambda: None) -> None:
        mark()
        self.optimizer.zero_grad()
        with self.autocast:
            loss = nn.functional.cross_entropy(self.network(self.images), self.labels)
        mark()
        loss.backward()
        mark()
        self.optimizer.step()
        mark()

    def time(self, number: int) -> Sample:
        """Mean seconds of forward, backward and optimizer over so many steps."""
        return laps(self, number, self.device)

    def peak(self) -> int:
        """Most bytes in a step, gradients of the parameters included."""
        self.optimizer.zero_grad()
        return peak_bytes(self, self.device)
