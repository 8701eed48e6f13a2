"""A network of hard thresholds as a Brevitas model."""

from __future__ import annotations

import brevitas.nn as qnn
import torch
from torch import nn

from ..quant import TargetPropSignedBinaryActPerTensorConst
from .threshold_network import ThresholdNetwork

__all__ = ["brevitas_model"]


def brevitas_model(network: ThresholdNetwork) -> nn.Sequential:
    """Linear layers with float weights, and a sign quantizer behind each but the last.

    Returns:
        The model in evaluation mode, from float32 (N, inputs) to the scores (N, outputs).

    >>> brevitas_model(ThresholdNetwork.zeros([2, 3, 1]))(torch.zeros(4, 2)).shape
    torch.Size([4, 1])
    """
    layers: list[nn.Module] = []
    for weights, biases in zip(network.weights, network.biases, strict=True):
        units, inputs = weights.shape
        linear = qnn.QuantLinear(inputs, units, bias=True, weight_quant=None)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weights))
            linear.bias.copy_(torch.from_numpy(biases))
        layers += [linear, qnn.QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst)]
    return nn.Sequential(*layers[:-1]).eval()
