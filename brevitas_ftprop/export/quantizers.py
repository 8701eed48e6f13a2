"""Which quantizers of a model are exported, under which names."""

from __future__ import annotations

from brevitas.proxy import ActQuantProxyFromInjector, WeightQuantProxyFromInjector
from brevitas.proxy.quant_proxy import QuantProxyFromInjector
from torch.nn import Module

__all__ = ["ACTIVATION", "WEIGHT", "kind_of", "quantizer_proxies"]

ACTIVATION = "activation"
WEIGHT = "weight"


def quantizer_proxies(model: Module) -> dict[str, Module]:
    """Enabled quantizer proxies by name, in definition order; a shared one has its first name.

    >>> from brevitas.nn import QuantLinear
    >>> list(quantizer_proxies(QuantLinear(2, 2, bias=True)))
    ['weight_quant']
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, QuantProxyFromInjector) and module.is_quant_enabled
    }


def kind_of(proxy: Module) -> str | None:
    """``"activation"``, ``"weight"``, or None for what is not verified (bias, truncation)."""
    if isinstance(proxy, ActQuantProxyFromInjector):
        return ACTIVATION
    if isinstance(proxy, WeightQuantProxyFromInjector):
        return WEIGHT
    return None
