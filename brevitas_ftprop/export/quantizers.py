"""Which quantizers of a model are exported, under which names."""

from __future__ import annotations

import torch
from brevitas.proxy import ActQuantProxyFromInjector, WeightQuantProxyFromInjector
from brevitas.proxy.parameter_quant import BiasQuantProxyFromInjectorBase
from brevitas.proxy.quant_proxy import QuantProxyFromInjector
from brevitas.proxy.runtime_quant import TruncQuantProxyFromInjector
from torch.nn import Module

from ..levels import LevelFunction, level_function
from .errors import ExportError

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


def leveled_proxies(model: Module) -> dict[str, Module]:
    """The enabled proxies that need integer levels: all but those of biases and truncation."""
    others = BiasQuantProxyFromInjectorBase, TruncQuantProxyFromInjector
    proxies = quantizer_proxies(model)
    return {name: proxy for name, proxy in proxies.items() if not isinstance(proxy, others)}


def check_quantizers(model: Module) -> None:
    """Raise unless every activation and weight quantizer can be exported.

    Raises:
        ExportError: names the first one that cannot.
    """
    for name, proxy in leveled_proxies(model).items():
        try:
            exported_levels(proxy)
        except ExportError as error:
            raise ExportError(f"{name}: {error}") from error


def exported_levels(proxy: Module) -> LevelFunction:
    """The levels of an activation or weight quantizer, if they can be exported.

    Raises:
        ExportError: for a quantizer without fixed integer levels (float, groupwise, dynamic,
            decoupled, still delayed) or with a scale that is not positive and finite.
    """
    try:
        function = level_function(proxy)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ExportError(str(error) or type(error).__name__) from error
    if not bool(torch.isfinite(function.scale).all()) or bool((function.scale <= 0).any()):
        raise ExportError("its scale is not a positive finite number")
    return function
