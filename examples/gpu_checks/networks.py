"""The networks whose steps are looked at, of real size on a GPU and narrow on a CPU."""

from __future__ import annotations

import torch
from measuring.networks import NETWORKS, Network
from torch import Tensor, nn

from brevitas_ftprop.models import ConvNet8, QuantResNet18

from .check import Check

NARROW = {
    "convnet8": Network(
        lambda size, **options: ConvNet8(10, size, channels=(4, 4, 4, 4, 4, 4, 8), **options),
        32,
        10,
        True,
    ),
    "resnet18": Network(
        lambda size, **options: QuantResNet18(10, "cifar", base=4, **options), 32, 10, True
    ),
}


def network_of(model: str, check: Check) -> Network:
    return (NARROW if check.small else NETWORKS)[model]


def batch_size(check: Check) -> int:
    return 8 if check.small else 128


class Step:
    """A training step in bfloat16 on one batch, channels last.

    Args:
        network: to train; it is moved to the device.
        images, labels: the batch.
        device: that computes.
    """

    def __init__(
        self, network: nn.Module, images: Tensor, labels: Tensor, device: torch.device
    ) -> None:
        form = torch.channels_last
        self.network = network.to(device, memory_format=form).train()
        self.images = images.to(device).contiguous(memory_format=form)
        self.labels, self.device = labels.to(device), device
        self.optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = nn.functional.cross_entropy(self.network(self.images), self.labels)
        loss.backward()
        self.optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """A copy of all that steps change."""
        tensors = (*self.network.named_parameters(), *self.network.named_buffers())
        return {name: tensor.detach().clone() for name, tensor in tensors}
