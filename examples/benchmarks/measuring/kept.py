"""What a forward pass keeps for backward, and what of it only quantizers keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from brevitas.proxy.quant_proxy import QuantProxyFromInjector
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


@dataclass(frozen=True)
class Kept:
    """Bytes of the distinct storages that stay for the backward pass.

    Parameters, buffers and the network's input are there anyway, and not counted.

    Attributes:
        total: of the whole network.
        by_quantizers: of what quantizers save and no other layer saves too.
        quantizer_inputs: of all that enters quantizers, as a measure for the latter.
    """

    total: int
    by_quantizers: int
    quantizer_inputs: int


def kept_for_backward(network: nn.Module, images: Tensor) -> Kept:
    """Run a network forward and weigh what its graph holds."""
    there_anyway = [*network.parameters(), *network.buffers(), images]
    ignored = {tensor.untyped_storage().data_ptr() for tensor in there_anyway}
    saved: dict[bool, dict[int, int]] = {True: {}, False: {}}
    depth = quantizer_inputs = 0

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in ignored:
            saved[depth > 0][storage.data_ptr()] = storage.nbytes()
        # Another tensor of the same storage: an operator that saves its own output would
        # otherwise be held by itself.
        return tensor.detach()

    def enter(proxy: Any, arguments: tuple) -> None:
        nonlocal depth, quantizer_inputs
        depth += 1
        x = getattr(arguments[0], "value", arguments[0])
        quantizer_inputs += x.nbytes

    def leave(proxy: Any, arguments: tuple, output: Any) -> None:
        nonlocal depth
        depth -= 1

    proxies = [
        module
        for module in network.modules()
        if isinstance(module, QuantProxyFromInjector) and module.is_quant_enabled
    ]
    handles = [proxy.register_forward_pre_hook(enter) for proxy in proxies]
    handles += [proxy.register_forward_hook(leave) for proxy in proxies]
    try:
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            output = network(images)
    finally:
        for handle in handles:
            handle.remove()
    # Up to here the graph has held every saved storage, so that no address was seen twice.
    del output
    own = saved[True].keys() - saved[False].keys()
    return Kept(
        total=sum((saved[False] | saved[True]).values()),
        by_quantizers=sum(saved[True][pointer] for pointer in own),
        quantizer_inputs=quantizer_inputs,
    )
