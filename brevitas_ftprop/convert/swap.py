"""Swap the quantizers of a live Brevitas model to a target rule, and back."""

from brevitas.proxy import WeightQuantProxyFromInjector
from torch import nn

from ..levels import tensor_quant_of
from ..ops import check_options
from .replacement import TARGET_PROP_PROXIES, describe, stock_change, target_prop_change
from .report import SwapReport
from .selection import Where, proxies_of, reason_to_keep, selector


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
        TypeError: for a quantizer that has no rule (float, groupwise, dynamic, decoupled), one
            that learns its rounding or has a clamp of your own, or a scripted or compiled one.

    Whatever it raises, nothing has been changed then.

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
    proxies = proxies_of(model)
    selects = selector(where, proxies)
    report, plan = SwapReport(), []
    for name, proxy in proxies.items():
        is_weight = isinstance(proxy, WeightQuantProxyFromInjector)
        reason = reason_to_keep(proxy)
        if reason is None and not (weights if is_weight else activations):
            reason = f"{'weights' if is_weight else 'activations'}=False"
        if reason is None and not selects(name, proxy):
            reason = "not selected by where"
        if reason is not None:
            report.kept[name] = reason
            continue
        spec = weight_spec if is_weight else act_spec
        plan.append(target_prop_change(name, proxy, {"rule": spec, **options}))
        report.changed[name] = f"{describe(proxy)} -> {spec}"
    for change in plan:
        change()
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
    proxies = proxies_of(model)
    selects = selector(where, proxies)
    report, plan = SwapReport(), []
    for name, proxy in proxies.items():
        if not isinstance(proxy, TARGET_PROP_PROXIES):
            report.kept[name] = "not a target-prop quantizer"
        elif not selects(name, proxy):
            report.kept[name] = "not selected by where"
        elif tensor_quant_of(proxy) is None:
            report.kept[name] = "quantization is disabled"
        else:
            plan.append(stock_change(name, proxy))
            report.changed[name] = (
                f"{describe(proxy)} -> {proxy.quant_injector.stock_quant_class.__name__}"
            )
    for change in plan:
        change()
    return report
