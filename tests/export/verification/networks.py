"""Networks so small that whatever changes in their files shows in an output; drawn at random."""

from __future__ import annotations

import random
from collections.abc import Callable

import brevitas.nn as qnn
import torch
from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerChannelFloat, Uint8ActPerTensorFloat
from torch import Tensor, nn

from brevitas_ftprop import quant

SIZE, CLASSES = 5, 4
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sign": lambda: qnn.QuantIdentity(quant.TargetPropSignedBinaryActPerTensorConst),
    "staircase": lambda: qnn.QuantIdentity(quant.TargetPropStaircase3ActPerTensorConst),
    "int4": lambda: qnn.QuantIdentity(Int8ActPerTensorFloat, bit_width=4),
    "int8": lambda: qnn.QuantIdentity(quant.TargetPropInt8ActPerTensorFixedPoint),
    "relu3": lambda: qnn.QuantReLU(Uint8ActPerTensorFloat, bit_width=3),
}
WEIGHTS = {
    "binary": {"weight_quant": quant.TargetPropSignedBinaryWeightPerTensorConst},
    "unit": {"weight_quant": quant.TargetPropSignedBinaryWeightPerTensorUnit},
    "fixed point": {
        "weight_quant": quant.TargetPropInt8WeightPerTensorFixedPoint,
        "weight_bit_width": 4,
    },
    "per channel": {"weight_quant": Int8WeightPerChannelFloat, "weight_bit_width": 4},
}


class Residual(nn.Module):
    """A convolution beside its input, both through one quantizer."""

    def __init__(self, channels: int, weights: str, act: str) -> None:
        super().__init__()
        self.conv = qnn.QuantConv2d(channels, channels, 3, padding=1, **WEIGHTS[weights])
        self.norm = nn.BatchNorm2d(channels)
        self.shared = ACTIVATIONS["int8"]()
        self.act = ACTIVATIONS[act]()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.shared(x) + self.shared(self.norm(self.conv(x))))


def network(seed: int) -> nn.Module:
    """One or two layers and a classifier, for images (3, SIZE, SIZE), in evaluation mode."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    channels, side = 3, SIZE
    layers = [ACTIVATIONS["int8" if rng.random() < 0.7 else "int4"]()]
    for _ in range(rng.choice((1, 1, 2))):
        weights, act = rng.choice(list(WEIGHTS)), rng.choice(list(ACTIVATIONS))
        if rng.random() < 0.25:
            layers.append(Residual(channels, weights, act))
            continue
        out = rng.choice((2, 3, 4))
        bias = rng.random() < 0.5
        layers.append(qnn.QuantConv2d(channels, out, 2, bias=bias, **WEIGHTS[weights]))
        channels, side = out, side - 1
        after = [nn.BatchNorm2d(out)] * (rng.random() < 0.7) + [ACTIVATIONS[act]()]
        if rng.random() < 0.5:
            pool = rng.choice((nn.MaxPool2d(2, 1), nn.AvgPool2d(2, 1)))
            after.insert(rng.randrange(len(after) + 1), pool)
            side -= 1
        layers += after
    layers.append(nn.Flatten())
    features = channels * side**2
    if rng.random() < 0.3:
        layers += [qnn.QuantLinear(features, 6, False, **WEIGHTS[rng.choice(list(WEIGHTS))])]
        layers += [nn.BatchNorm1d(6), ACTIVATIONS[rng.choice(list(ACTIVATIONS))]()]
        features = 6
    layers.append(
        qnn.QuantLinear(features, CLASSES, rng.random() < 0.6, **WEIGHTS[rng.choice(list(WEIGHTS))])
    )
    # What a network may end in: logits, a quantizer's result, and operators with no rounding bound.
    layers += rng.choice(([], [], [ACTIVATIONS["int8"]()], [nn.Softmax(1)], [nn.LogSoftmax(1)]))
    return _settled(nn.Sequential(*layers))


def _settled(model: nn.Module) -> nn.Module:
    """Statistics collected and batch norms off their start."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.bias.add_(0.3 * torch.randn(module.bias.shape))
                module.weight.mul_(1 + 0.3 * torch.rand(module.bias.shape))
        for _ in range(3):
            model(torch.randn(16, 3, SIZE, SIZE))
    return model.eval()


def images(seed: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, SIZE, SIZE, generator=generator)
