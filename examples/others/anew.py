"""Networks from papers and benchmarks, written anew with Brevitas' own quantizers."""

from __future__ import annotations

import brevitas.nn as qnn
from brevitas.quant import Int32Bias
from brevitas.quant import SignedBinaryWeightPerTensorConst as Binary
from torch import Tensor, nn

from brevitas_ftprop.quant import TargetPropSignedBinaryActPerTensorConst

TENSOR = {"return_quant_tensor": True}


class Block(nn.Module):
    """Two convolutions with quantized biases and a shortcut."""

    def __init__(self, entering: int, leaving: int, stride: int) -> None:
        super().__init__()
        options = {"bias": True, "bias_quant": Int32Bias}
        self.conv1 = qnn.QuantConv2d(entering, leaving, 3, stride, 1, **options)
        self.act1 = qnn.QuantReLU(**TENSOR)
        self.conv2 = qnn.QuantConv2d(leaving, leaving, 3, 1, 1, **options)
        self.norms = nn.ModuleList([nn.BatchNorm2d(leaving), nn.BatchNorm2d(leaving)])
        self.shortcut = nn.Identity()
        if stride > 1:
            self.shortcut = qnn.QuantConv2d(entering, leaving, 1, stride, **options)
        self.shared, self.act2 = qnn.QuantIdentity(**TENSOR), qnn.QuantReLU(**TENSOR)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[1](self.conv2(self.act1(self.norms[0](self.conv1(x)))))
        return self.act2(self.shared(y) + self.shared(self.shortcut(x)))


def resnet8(width: int = 4) -> nn.Module:
    """The image classifier of MLPerf Tiny, with a quantizer behind the flattened average.

    Args:
        width: channels of the first stage, 16 in the benchmark.

    References:
        Banbury et al., MLPerf Tiny Benchmark, arXiv:2106.07597.
    """
    return nn.Sequential(
        qnn.QuantIdentity(**TENSOR),
        qnn.QuantConv2d(3, width, 3, padding=1, bias=True, bias_quant=Int32Bias),
        nn.BatchNorm2d(width),
        qnn.QuantReLU(**TENSOR),
        Block(width, width, 1),
        Block(width, 2 * width, 2),
        Block(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        qnn.QuantIdentity(**TENSOR),
        qnn.QuantLinear(4 * width, 10, bias=True, bias_quant=Int32Bias),
    )


def binary_mlp(inputs: int = 64, hidden: int = 32) -> nn.Module:
    """Signs in, signs between, as the networks for packet filters and jet tagging have them."""
    layers: list[nn.Module] = [qnn.QuantIdentity(TargetPropSignedBinaryActPerTensorConst, **TENSOR)]
    for entering in (inputs, hidden):
        layers += [
            qnn.QuantLinear(entering, hidden, bias=False, weight_quant=Binary),
            nn.BatchNorm1d(hidden),
            qnn.QuantIdentity(TargetPropSignedBinaryActPerTensorConst, **TENSOR),
        ]
    return nn.Sequential(*layers, qnn.QuantLinear(hidden, 5, bias=False, weight_bit_width=4))
