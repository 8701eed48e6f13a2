"""The networks whose steps are looked at, of real size on a GPU and narrow on a CPU."""

from __future__ import annotations

from measuring.networks import NETWORKS, Network
from measuring.step import Step
from torch import nn

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


def step_of(network: nn.Module, model: str, count: int, check: Check) -> Step:
    """A training step in bfloat16, channels last, on so many random images."""
    kind = network_of(model, check)
    images, labels = (part.to(check.device) for part in kind.batch(kind.image_size, count))
    return Step(network, images, labels, "bf16", channels_last=True)
