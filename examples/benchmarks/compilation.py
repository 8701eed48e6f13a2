"""``torch.compile`` for networks with Brevitas layers, as far as it goes."""

from __future__ import annotations

import torch
from brevitas.proxy import ActQuantProxyFromInjector
from torch import nn

from brevitas_ftprop.proxy import TargetPropProxy

__all__ = ["compile_network", "compile_stock_quantizer"]


def compile_stock_quantizer(layer: nn.Module) -> None:
    """Compile what a stock activation computes, activation function included, in place.

    The layer around stays: the compiler fails on Brevitas' quantized tensors.
    """
    layer.act_quant.fused_activation_quant_proxy.compile(dynamic=False, fullgraph=True)


def compile_network(network: nn.Module) -> nn.Module:
    """Compile a network in place: what lies between its quantizers, and each stock quantizer.

    Our quantizers run by their own backend.
    """
    # Each quantizer's input has a shape of its own.
    torch._dynamo.config.recompile_limit = 64
    for layer in list(network.modules()):
        proxy = getattr(layer, "act_quant", None)
        if not isinstance(proxy, ActQuantProxyFromInjector) or not proxy.is_quant_enabled:
            continue
        if not isinstance(proxy, TargetPropProxy):
            compile_stock_quantizer(layer)
        layer.forward = torch.compiler.disable(layer.forward)
    network.compile(dynamic=False)
    return network
