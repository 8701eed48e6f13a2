"""Swap the quantizers of a live Brevitas model to a target rule, and back."""

import fnmatch
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from brevitas.core.function_wrapper import LearnedRoundSte, TensorClamp
from brevitas.core.quant import (
    BinaryQuant,
    ClampedBinaryQuant,
    IntQuant,
    RescalingIntQuant,
    TernaryQuant,
)
from brevitas.inject import DependencyError
from brevitas.proxy import ActQuantProxyFromInjector, WeightQuantProxyFromInjector
from brevitas.proxy.quant_proxy import QuantProxyFromInjector
from torch import nn
from torch.jit import ScriptModule

from .constants import forget
from .core import (
    TargetPropBinaryQuant,
    TargetPropIntQuant,
    TargetPropRescalingIntQuant,
    TargetPropStaircaseQuant,
    TargetPropTernaryQuant,
    fuse_relu,
    is_integer_quantizer,
)
from .levels import tensor_quant_of
from .ops import check_options
from .proxy import (
    TargetPropActQuantProxy,
    TargetPropWeightQuantProxy,
    rule_holder,
)

__all__ = ["SwapReport", "restore_quantizers", "swap_quantizers"]

Where = Callable[[str, nn.Module], bool] | str | Iterable[str] | None

STOCK_OF_PROXY = {
    TargetPropActQuantProxy: ActQuantProxyFromInjector,
    TargetPropWeightQuantProxy: WeightQuantProxyFromInjector,
}
TARGET_PROP_OF_PROXY = {stock: ours for ours, stock in STOCK_OF_PROXY.items()}
TARGET_PROP_PROXIES = tuple(STOCK_OF_PROXY)


@dataclass
class SwapReport:
    """What a conversion did: quantizer names with what was done, or why nothing was.

    Attributes:
        changed: name → description of the change.
        kept: name → reason why it was left alone.
    """

    changed: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        width = max(map(len, self.changed), default=0)
        lines = [f"{len(self.changed)} quantizers changed, {len(self.kept)} left alone"]
        lines += [f"  {name:<{width}}  {change}" for name, change in self.changed.items()]
        lines += [f"  {n} kept: {why}" for why, n in Counter(self.kept.values()).most_common()]
        return "\n".join(lines)


def swap_quantizers(
    model: nn.Module,
    rule: str = "soft_hinge",
    *,
    activations: bool = True,
    weights: bool = False,
    where: Where = None,
    weight_rule: str | None = None,
    weighting: str = "grad",
    staircase: str = "single",
    saved: str = "exact",
) -> SwapReport:
    """Give the quantizers of a Brevitas model a target rule's gradient, in place.

    Forward outputs stay bit-identical (a zero behind a ReLU may change its sign); Parameters,
    buffers, statistics, delay counters, dtype, device, training mode, hooks and state-dict keys
    stay the same objects and values. Hooks on a quantizer's rounding and clamp are kept, but not
    called: a target-prop step does both by itself. Options that are not given are set to their
    defaults, also where a quantizer was converted before.

    Args:
        model: any model with Brevitas layers.
        rule: spec of a registered rule, for activations and, unless ``weight_rule`` is given,
            weights. ``"saturated_ste"`` (activations) and ``"ste"`` (most weights) equal stock.
        activations: whether to convert activation quantizers, layers' inputs and outputs
            included.
        weights: whether to convert weight quantizers.
        where: which quantizers, by name: a function of (name, proxy), or one or more patterns
            such as ``"layer1.*"``; all by default.
        weight_rule: another rule for the weights.
        weighting: ``"grad"`` or, for activations only, ``"mean"``.
        staircase: ``"single"`` or ``"sum"``.
        saved: what is kept for backward, ``"exact"`` (the input) or ``"compact"`` (a bit or a byte
            an element, which says its slope; two bytes with a learned scale and for rules
            without bounds).

    Returns:
        The quantizers changed and those left alone, with the reason: bias, truncation and
        disabled quantizers always are.

    Raises:
        ValueError: for unknown options, 1/N weighting on weights, a pattern that matches nothing,
            nothing to convert, a model without quantizers, or in export mode.
        TypeError: for a quantizer that has no rule (float, groupwise, dynamic, decoupled) or a
            scripted or compiled one. Nothing has been changed then.

    >>> from brevitas.nn import QuantIdentity
    >>> from brevitas.quant import SignedBinaryActPerTensorConst
    >>> model = nn.Sequential(nn.Linear(4, 4), QuantIdentity(SignedBinaryActPerTensorConst))
    >>> print(swap_quantizers(model, "soft_hinge"))
    1 quantizers changed, 1 left alone
      1.act_quant  ClampedBinaryQuant -> soft_hinge
      1 kept: quantization is disabled
    """
    options = {"weighting": weighting, "staircase": staircase, "saved": saved}
    act_spec = check_options(rule, **options)
    weight_spec = check_options(rule if weight_rule is None else weight_rule, **options)
    if not (activations or weights):
        raise ValueError("there is nothing to convert: pass activations=True or weights=True")
    if weights and weighting == "mean":
        raise ValueError(
            'weighting="mean" is for activations: a weight\'s first dimension is not a batch; '
            'convert the weights in a call of their own with weighting="grad"'
        )
    if weight_rule is not None and not weights:
        raise ValueError("weight_rule is given but weights=False: pass weights=True to use it")
    proxies = _proxies(model)
    selects = _selector(where, proxies)
    report, plan = SwapReport(), []
    for name, proxy in proxies.items():
        is_weight = isinstance(proxy, WeightQuantProxyFromInjector)
        reason = _reason_to_keep(proxy)
        if reason is None and not (weights if is_weight else activations):
            reason = f"{'weights' if is_weight else 'activations'}=False"
        if reason is None and not selects(name, proxy):
            reason = "not selected by where"
        if reason is not None:
            report.kept[name] = reason
            continue
        _check_convertible(name, proxy)
        spec = weight_spec if is_weight else act_spec
        plan.append((name, proxy, {"rule": spec, **options}))
    for name, proxy, new in plan:
        report.changed[name] = f"{_describe(proxy)} -> {new['rule']}"
        _convert(proxy, new)
    return report


def restore_quantizers(model: nn.Module, *, where: Where = None) -> SwapReport:
    """Give target-prop quantizers their stock Brevitas gradient back, in place.

    It also takes quantizers that were made target-prop ones (``TargetProp…Per…``), and keeps all
    that :func:`swap_quantizers` keeps.

    Args:
        model: any model with Brevitas layers.
        where: which quantizers, as for :func:`swap_quantizers`.

    Raises:
        ValueError: for a model without quantizers, or in export mode.
        TypeError: for the paper's staircases, which stock Brevitas does not have, for own
            quantizers that do not bind ``stock_quant_class``, and for scripted or compiled ones.
            Nothing has been changed then.

    >>> from brevitas.nn import QuantIdentity
    >>> from brevitas.quant import SignedBinaryActPerTensorConst
    >>> model = nn.Sequential(nn.Linear(4, 4), QuantIdentity(SignedBinaryActPerTensorConst))
    >>> _ = swap_quantizers(model)
    >>> print(restore_quantizers(model))
    1 quantizers changed, 1 left alone
      1.act_quant  soft_hinge -> ClampedBinaryQuant
      1 kept: not a target-prop quantizer
    """
    proxies = _proxies(model)
    selects = _selector(where, proxies)
    report, plan = SwapReport(), []
    for name, proxy in proxies.items():
        if not isinstance(proxy, TARGET_PROP_PROXIES):
            report.kept[name] = "not a target-prop quantizer"
        elif not selects(name, proxy):
            report.kept[name] = "not selected by where"
        else:
            if isinstance(tensor_quant_of(proxy), TargetPropStaircaseQuant):
                raise TypeError(
                    f"{name} is one of the paper's staircases, which stock Brevitas does not "
                    "have; leave it out with where="
                )
            _check_live(name, proxy)
            plan.append((name, proxy, _stock_quant_class(name, proxy)))
    for name, proxy, stock in plan:
        rule = proxy.rule
        _restore(proxy, stock)
        report.changed[name] = f"{rule} -> {_describe(proxy)}"
    return report


def _proxies(model: nn.Module) -> dict[str, Any]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module with Brevitas layers, not {model!r}")
    proxies = {n: m for n, m in model.named_modules() if isinstance(m, QuantProxyFromInjector)}
    if not proxies:
        raise ValueError(
            f"{type(model).__name__} has no Brevitas quantizers: build it from brevitas.nn layers "
            "or quantize it with brevitas.graph.quantize first"
        )
    return proxies


def _selector(where: Where, names: Iterable[str]) -> Callable[[str, nn.Module], bool]:
    if where is None:
        return lambda name, proxy: True
    if callable(where):
        return where
    patterns = [where] if isinstance(where, str) else where
    if not isinstance(patterns, Iterable) or not all(isinstance(p, str) for p in patterns):
        raise TypeError(f"where takes a function or name patterns, not {where!r}")
    patterns = list(patterns)
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


def _reason_to_keep(proxy: Any) -> str | None:
    if not isinstance(proxy, ActQuantProxyFromInjector | WeightQuantProxyFromInjector):
        kind = type(proxy).__name__.removesuffix("QuantProxyFromInjector")
        if kind in ("Bias", "Trunc", "Clamp"):
            return f"{kind.lower()} quantizers have no rule"
    if not proxy.is_quant_enabled:
        return "quantization is disabled"
    return None


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


def _check_convertible(name: str, proxy: Any) -> None:
    _check_live(name, proxy)
    if isinstance(proxy, TARGET_PROP_PROXIES):
        return
    quant = tensor_quant_of(proxy)
    convertible = type(proxy) in TARGET_PROP_OF_PROXY and (
        type(quant) in (BinaryQuant, ClampedBinaryQuant, TernaryQuant)
        or (is_integer_quantizer(quant) and type(quant.int_quant) is IntQuant)
    )
    if not convertible:
        raise TypeError(
            f"{name} ({type(proxy).__name__} with {type(quant).__name__}) has no target rule: "
            "only integer, binary and ternary quantizers do, not float, groupwise, dynamic or "
            "decoupled ones; leave it out with where="
        )
    if isinstance(getattr(rule_holder(quant), "float_to_int_impl", None), LearnedRoundSte):
        raise TypeError(f"{name} learns its rounding, which no target rule does; leave it out")


def _describe(proxy: Any) -> str:
    if isinstance(proxy, TARGET_PROP_PROXIES):
        return proxy.rule
    return type(rule_holder(tensor_quant_of(proxy))).__name__


def _convert(proxy: Any, options: dict[str, str]) -> None:
    if isinstance(proxy, TARGET_PROP_PROXIES):
        proxy._set_options(**options)
        return
    quant = tensor_quant_of(proxy)
    proxy_class = TARGET_PROP_OF_PROXY[type(proxy)]
    bindings = {**options, "proxy_class": proxy_class}
    if isinstance(quant, RescalingIntQuant):
        bindings |= {
            "tensor_quant": TargetPropRescalingIntQuant,
            "int_quant": TargetPropIntQuant,
            "stock_quant_class": type(quant.int_quant),
        }
        quant.int_quant = _rebuild(TargetPropIntQuant, quant.int_quant, options)
        # It has the same children and nothing else, and keeps hooks on it as it is.
        quant.__class__ = TargetPropRescalingIntQuant
    else:
        ours = TargetPropTernaryQuant if isinstance(quant, TernaryQuant) else TargetPropBinaryQuant
        bindings |= {"tensor_quant": ours, "stock_quant_class": type(quant)}
        if type(quant) is BinaryQuant:
            # It has no clamp; one that the injector holds must not come in at a reload.
            bindings["tensor_clamp_impl"] = TensorClamp
        _replace_tensor_quant(proxy, _rebuild(ours, quant, options))
    proxy.quant_injector = proxy.quant_injector.let(**bindings)
    # The proxy stays the same object, so that layers which share it, hooks on it and everything
    # that tracks it go on.
    proxy.__class__ = proxy_class
    fuse_relu(getattr(proxy, "fused_activation_quant_proxy", None))


def _stock_quant_class(name: str, proxy: Any) -> type:
    try:
        return proxy.quant_injector.stock_quant_class
    except DependencyError as error:
        raise TypeError(
            f"{name} does not say which Brevitas quantizer it stands for: bind stock_quant_class "
            "in its quantizer class, or leave it out with where="
        ) from error


def _restore(proxy: Any, stock: type) -> None:
    quant, stock_proxy = tensor_quant_of(proxy), STOCK_OF_PROXY[type(proxy)]
    if isinstance(quant, RescalingIntQuant):
        bindings = {"tensor_quant": RescalingIntQuant, "int_quant": stock}
        quant.int_quant = _rebuild(stock, quant.int_quant, {})
        quant.__class__ = RescalingIntQuant
        forget(quant)
    else:
        bindings = {"tensor_quant": stock}
        _replace_tensor_quant(proxy, _rebuild(stock, quant, {}))
    proxy.quant_injector = proxy.quant_injector.let(**bindings, proxy_class=stock_proxy)
    proxy.__class__ = stock_proxy
    fuse_relu(getattr(proxy, "fused_activation_quant_proxy", None), yes=False)
    vars(proxy).pop("chosen_options", None)


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


def _replace_tensor_quant(proxy: Any, quant: nn.Module) -> None:
    fused = getattr(proxy, "fused_activation_quant_proxy", None)
    if fused is None:
        proxy.tensor_quant = quant
    else:
        fused.tensor_quant = quant
