"""One quantizer's change, asked for and built whole before anything in the model changes."""

from collections.abc import Callable
from functools import partial
from typing import Any

from brevitas.core.function_wrapper import TensorClamp
from brevitas.core.quant import (
    BinaryQuant,
    ClampedBinaryQuant,
    IntQuant,
    RescalingIntQuant,
    TernaryQuant,
)
from brevitas.inject import DependencyError
from brevitas.proxy import ActQuantProxyFromInjector, WeightQuantProxyFromInjector
from torch import nn
from torch.jit import ScriptModule

from ..core import (
    TargetPropBinaryQuant,
    TargetPropIntQuant,
    TargetPropRescalingIntQuant,
    TargetPropStaircaseQuant,
    TargetPropTernaryQuant,
    fuse_relu,
    is_integer_quantizer,
    rule_holder,
)
from ..levels import tensor_quant_of
from ..memo import forget
from ..proxy import (
    TargetPropActQuantProxy,
    TargetPropWeightQuantProxy,
    quant_type_of,
)

STOCK_OF_PROXY = {
    TargetPropActQuantProxy: ActQuantProxyFromInjector,
    TargetPropWeightQuantProxy: WeightQuantProxyFromInjector,
}
TARGET_PROP_OF_PROXY = {stock: ours for ours, stock in STOCK_OF_PROXY.items()}
TARGET_PROP_PROXIES = tuple(STOCK_OF_PROXY)

# Carries a change out, and cannot fail.
Change = Callable[[], None]


def target_prop_change(name: str, proxy: Any, options: dict[str, str]) -> Change:
    """The change of a quantizer to a target rule's, or to other options of one.

    Raises:
        TypeError, ValueError: for a quantizer that cannot be changed; names it.
    """
    _check_live(name, proxy)
    quant = tensor_quant_of(proxy)
    holder = rule_holder(quant)
    if isinstance(proxy, TARGET_PROP_PROXIES):
        if not hasattr(holder, "rule"):
            raise TypeError(
                f"{name} holds a {type(holder).__name__}, which has no rule, in a target-prop "
                "proxy; leave it out with where="
            )
        return partial(proxy._set_options, **options)
    is_integer = is_integer_quantizer(quant) and type(holder) is IntQuant
    is_convertible = type(proxy) in TARGET_PROP_OF_PROXY and (
        type(quant) in (BinaryQuant, ClampedBinaryQuant, TernaryQuant) or is_integer
    )
    if not is_convertible:
        raise TypeError(
            f"{name} ({type(proxy).__name__} with {type(quant).__name__}) has no target rule: "
            "only integer, binary and ternary quantizers do, not float, groupwise, dynamic or "
            "decoupled ones; leave it out with where="
        )
    if is_integer:
        target, tensor_quant = TargetPropIntQuant, TargetPropRescalingIntQuant
        bindings: dict[str, Any] = {"int_quant": target}
    else:
        target = TargetPropTernaryQuant if type(quant) is TernaryQuant else TargetPropBinaryQuant
        tensor_quant, bindings = target, {}
        if type(quant) is BinaryQuant:
            # It has no clamp; one that the injector holds must not come in at a reload.
            bindings["tensor_clamp_impl"] = TensorClamp
    try:
        built = _rebuild(target, holder, options)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}; or leave it out with where=") from error
    bindings |= {**options, "tensor_quant": tensor_quant, "stock_quant_class": type(holder)}
    return _exchange(proxy, built, TARGET_PROP_OF_PROXY[type(proxy)], bindings)


def stock_change(name: str, proxy: Any) -> Change:
    """The change of a target-prop quantizer to the Brevitas one that it stands for.

    Raises:
        TypeError, ValueError: for a quantizer that cannot be changed; names it.
    """
    quant = tensor_quant_of(proxy)
    if isinstance(quant, TargetPropStaircaseQuant):
        raise TypeError(
            f"{name} is one of the paper's staircases, which stock Brevitas does not "
            "have; leave it out with where="
        )
    _check_live(name, proxy)
    try:
        stock = proxy.quant_injector.stock_quant_class
    except DependencyError as error:
        raise TypeError(
            f"{name} does not say which Brevitas quantizer it stands for: bind stock_quant_class "
            "in its quantizer class, or leave it out with where="
        ) from error
    is_integer = isinstance(quant, RescalingIntQuant)
    try:
        built = _rebuild(stock, rule_holder(quant), {})
    except (TypeError, ValueError, AttributeError) as error:
        raise TypeError(
            f"{name} cannot become a {stock.__name__} again ({error}); leave it out with where="
        ) from error
    bindings = (
        {"tensor_quant": RescalingIntQuant, "int_quant": stock}
        if is_integer
        else {"tensor_quant": stock}
    )
    return _exchange(proxy, built, STOCK_OF_PROXY[type(proxy)], bindings)


def describe(proxy: Any) -> str:
    """The rule of a target-prop quantizer, the kind of a stock one."""
    if isinstance(proxy, TARGET_PROP_PROXIES):
        return proxy.rule
    return type(rule_holder(tensor_quant_of(proxy))).__name__


def _check_live(name: str, proxy: Any) -> None:
    if proxy.export_mode or proxy.export_handler is not None:
        raise ValueError(f"{name} is in export or inference mode: leave that mode first")
    if proxy.is_proxy_compiled:
        raise TypeError(f"{name} is compiled: convert the model before torch.compile")
    if isinstance(tensor_quant_of(proxy), ScriptModule):
        raise TypeError(
            f"{name} is scripted (BREVITAS_JIT=1): build the model with target-prop quantizers, "
            "or convert it with BREVITAS_JIT=0"
        )


def _rebuild(target: Any, source: Any, options: dict[str, str]) -> nn.Module:
    """An instance of ``target`` with ``source``'s children, options, hooks and training mode."""
    arguments: dict[str, Any] = options | {
        name: getattr(source, name)
        for name in (
            "narrow_range",
            "signed",
            "input_view_impl",
            "float_to_int_impl",
            "tensor_clamp_impl",
            "scaling_impl",
            "threshold",
        )
        if hasattr(source, name)
    }
    if target is BinaryQuant:
        arguments.pop("tensor_clamp_impl")
    rebuilt = target(**arguments)
    for name, child in source.named_children():
        if hasattr(rebuilt, name):
            setattr(rebuilt, name, child)
    # The very dictionaries, so that handles which users hold can still remove their hooks.
    vars(rebuilt).update({name: value for name, value in vars(source).items() if "hook" in name})
    rebuilt.training = source.training
    return rebuilt


def _exchange(proxy: Any, built: nn.Module, proxy_class: type, bindings: dict[str, Any]) -> Change:
    injector = proxy.quant_injector.let(**bindings, proxy_class=proxy_class)
    made_for = quant_type_of(injector)
    quant, fused = tensor_quant_of(proxy), getattr(proxy, "fused_activation_quant_proxy", None)

    def change() -> None:
        if isinstance(quant, RescalingIntQuant):
            quant.int_quant = built
            # It has the same children and nothing else, and keeps hooks on it as it is.
            quant.__class__ = bindings["tensor_quant"]
            forget(quant)
        else:
            (proxy if fused is None else fused).tensor_quant = built
        proxy.quant_injector = injector
        # The proxy stays the same object, so that layers which share it, hooks on it and everything
        # that tracks it go on.
        proxy.__class__ = proxy_class
        fuse_relu(fused, yes=proxy_class in TARGET_PROP_PROXIES)
        for own in ("chosen_options", "options_before", "made_for"):
            vars(proxy).pop(own, None)
        if proxy_class in TARGET_PROP_PROXIES:
            proxy.made_for = made_for

    return change
