"""Which layer of the PyTorch model each hardware node computes."""

from __future__ import annotations

import torch
from brevitas.nn.mixin import QuantWeightMixin
from qonnx.core.modelwrapper import ModelWrapper
from torch import Tensor
from torch.nn import Module

from .tracking import tracked_quantizers

POOLS = ("Pool", "MaxPool", "AvgPool")


def layers_behind(model: Module, partition: ModelWrapper) -> dict[str, str]:
    """Names of the model's layers, by the names of the nodes that compute them, or feed them only.

    A quantizer is known by its notes, and a layer with weights by their integers, whatever order
    and sign FINN gives them. Pools are told by their order, where there are as many as modules.
    """
    found = {each.node: each.name.rpartition(".")[0] for each in tracked_quantizers(partition)}
    weighted = _integers(model)
    pools = [name for name, module in model.named_modules() if _is_pool(type(module).__name__)]
    nodes = list(partition.graph.node)
    pooling = [node.name for node in nodes if _is_pool(node.op_type)]
    if len(pooling) == len(pools):
        found |= dict(zip(pooling, pools, strict=True))
    for node in nodes:
        weights = partition.get_initializer(node.input[1]) if len(node.input) > 1 else None
        if weights is None or node.name in found:
            continue
        integers = torch.tensor(weights).flatten().abs().sort().values
        for name, own in weighted.items():
            if own.shape == integers.shape and torch.equal(own, integers):
                found[node.name] = name
                # One of equal layers each.
                del weighted[name]
                break
    # Paddings and sliding windows are part of what they feed.
    for node in reversed(nodes):
        behind = partition.find_direct_successors(node) or []
        if node.name not in found and node.op_type.startswith(("ConvolutionInput", "FMPadding")):
            fed = {found[each.name] for each in behind if each.name in found}
            if len(fed) == 1:
                found[node.name] = fed.pop()
    return found


@torch.no_grad()
def _integers(model: Module) -> dict[str, Tensor]:
    """Of each layer with quantized weights, their integers' sizes in rising order."""
    found = {}
    for name, module in model.named_modules():
        proxy = getattr(module, "weight_quant", None)
        if isinstance(module, QuantWeightMixin) and getattr(proxy, "is_quant_enabled", False):
            weight = module.quant_weight()
            integers = (weight.value / weight.scale).round().flatten()
            found[name] = integers.abs().sort().values
    return found


def _is_pool(kind: str) -> bool:
    return any(pool in kind for pool in POOLS)
