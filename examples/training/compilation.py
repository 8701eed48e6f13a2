"""``torch.compile`` for networks with Brevitas layers."""

from __future__ import annotations

import torch
from brevitas.nn.mixin.base import QuantLayerMixin
from brevitas.proxy.quant_proxy import QuantProxyFromInjector
from torch import nn

from .failures import TrainingError

__all__ = ["compile_network"]


def compile_network(network: nn.Module, backend: str) -> None:
    """Compile a network in place, so that its state dict keeps its names.

    Layers that quantize run as they are, between the compiled parts: the compiler fails on
    Brevitas' quantized tensors.

    Raises:
        TrainingError: for an unknown backend.
    """
    for module in network.modules():
        if isinstance(module, QuantLayerMixin) and any(
            isinstance(child, QuantProxyFromInjector) and child.is_quant_enabled
            for child in module.children()
        ):
            module.forward = torch.compiler.disable(module.forward)
    try:
        network.compile(backend=backend)
    except RuntimeError as error:
        raise TrainingError(f"compile: {error}") from error
