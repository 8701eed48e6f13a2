"""``torch.compile`` for layers and networks of Brevitas."""

from __future__ import annotations

from torch import nn


def compile_stock_quantizer(layer: nn.Module) -> None:
    """Compile what a stock activation computes, activation function included, in place.

    The layer around stays: the compiler fails on Brevitas' quantized tensors.
    """
    layer.act_quant.fused_activation_quant_proxy.compile(dynamic=False, fullgraph=True)


def compile_network(network: nn.Module) -> nn.Module:
    """Compile a network in place, quantizers and all.

    Stock quantizers have it too, since ``brevitas_ftprop`` lets the compiler trace Brevitas'
    quantized tensors.
    """
    network.compile(dynamic=False)
    return network
