"""Which quantizers of a model a conversion is about."""

import fnmatch
from collections.abc import Callable, Iterable
from typing import Any

from brevitas.proxy import ActQuantProxyFromInjector, WeightQuantProxyFromInjector
from brevitas.proxy.quant_proxy import QuantProxyFromInjector
from torch import nn

Where = Callable[[str, nn.Module], bool] | str | Iterable[str] | None


def proxies_of(model: nn.Module) -> dict[str, Any]:
    """The quantizers of a model by name.

    Raises:
        TypeError: for what is no module.
        ValueError: for a model without quantizers.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module with Brevitas layers, not {model!r}")
    proxies = {n: m for n, m in model.named_modules() if isinstance(m, QuantProxyFromInjector)}
    if not proxies:
        raise ValueError(
            f"{type(model).__name__} has no Brevitas quantizers: build it from brevitas.nn layers "
            "or quantize it with brevitas.graph.quantize first"
        )
    return proxies


def selector(where: Where, names: Iterable[str]) -> Callable[[str, nn.Module], bool]:
    """What says, of a quantizer's name and proxy, whether ``where`` means it.

    Raises:
        TypeError: for what is neither a function nor patterns.
        ValueError: for no pattern, or one that matches nothing.
    """
    if where is None:
        return lambda name, proxy: True
    if callable(where):
        return where
    if not isinstance(where, Iterable):
        raise TypeError(f"where takes a function or name patterns, not {where!r}")
    patterns = [where] if isinstance(where, str) else list(where)
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError(f"where takes a function or name patterns, not {where!r}")
    if not patterns:
        raise ValueError("where is empty: leave it out to select every quantizer")
    for pattern in patterns:
        if not any(_matches(name, pattern) for name in names):
            raise ValueError(
                f"where={pattern!r} matches no quantizer; they have names such as "
                f"{', '.join(list(names)[:3])}"
            )
    return lambda name, proxy: any(_matches(name, pattern) for pattern in patterns)


def _matches(name: str, pattern: str) -> bool:
    # A name may hold brackets, which patterns read otherwise.
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


def reason_to_keep(proxy: Any) -> str | None:
    """Why a quantizer cannot follow a rule, None where it can."""
    if not isinstance(proxy, ActQuantProxyFromInjector | WeightQuantProxyFromInjector):
        kind = type(proxy).__name__.removesuffix("QuantProxyFromInjector")
        if kind in ("Bias", "Trunc", "Clamp"):
            return f"{kind.lower()} quantizers have no rule"
    if not proxy.is_quant_enabled:
        return "quantization is disabled"
    return None
