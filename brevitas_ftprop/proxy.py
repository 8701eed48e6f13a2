"""Quantizer proxies that carry a target rule, readable and changeable on a live model."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import brevitas.config
import torch
from brevitas.inject import DependencyError
from brevitas.proxy import ActQuantProxyFromInjector, WeightQuantProxyFromInjector
from brevitas.quant_tensor import IntQuantTensor
from torch import nn

# Made known to the compiler.
from . import traced_quant_tensor as traced_quant_tensor
from .core import OPTIONS, fuse_relu, rule_holder
from .kernels.backends.compiled import COMPILABLE, SINCE
from .levels import tensor_quant_of
from .ops import check_options
from .quantize_op import is_unseen
from .rules import get_rule

TRUTH = {truth: torch.tensor(truth) for truth in (False, True)}


# Where fullgraph=True forbids that, torch raises and names this function.
@torch.compiler.disable
def compiling_quantizers_needs_a_newer_torch(proxy: Any, x: Any) -> Any:
    """Run a quantizer uncompiled, and say why."""
    warnings.warn(
        f"compiling quantizers needs torch {SINCE}; in {torch.__version__} they run uncompiled",
        stacklevel=2,
    )
    return proxy.forward(x)


def quant_type_of(injector: Any) -> str | None:
    """The ``quant_type`` that a quantizer's injector asks for, None where it says nothing.

    >>> from brevitas.quant import Int8ActPerTensorFloat
    >>> quant_type_of(Int8ActPerTensorFloat)
    'INT'
    """
    try:
        return str(injector.quant_type).upper()
    except DependencyError:
        return None


def _held_option(name: str, says: str) -> Any:
    """Property of a proxy that is held where its quantizer's rule is."""
    return property(
        lambda proxy: proxy._option(name),
        lambda proxy, value: proxy._set_options(**{name: value}),
        doc=says,
    )


class TargetPropProxy:
    """The rule of a quantizer proxy and its options.

    ``rule``, ``weighting``, ``staircase`` and ``saved`` can be read and set at any time; a new
    value holds from the next forward pass on and survives the re-initialisation that
    ``load_state_dict`` does. Where ``quant_injector`` is given a new binding, ``init_tensor_quant``
    follows it, or raises and leaves the quantizer as it was.

    >>> from brevitas.nn import QuantIdentity
    >>> from brevitas_ftprop.quant import TargetPropSignedBinaryActPerTensorConst
    >>> act = QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst)
    >>> act.act_quant.rule
    'soft_hinge'
    >>> act.act_quant.rule = "SSTE"
    >>> act.act_quant.rule
    'saturated_ste'
    """

    quant_injector: Any

    def forward(self, x: Any) -> Any:
        if torch.compiler.is_dynamo_compiling():
            if not COMPILABLE:
                return compiling_quantizers_needs_a_newer_torch(self, x)  # pyright: ignore[reportCallIssue]
            # Brevitas counts the steps of statistics and of a delay in ints, which would otherwise
            # be constants to the compiler: every step compiled again.
            with torch._dynamo.patch_dynamo_config(allow_unspec_int_on_nn_module=True):
                return super().forward(x)  # pyright: ignore[reportAttributeAccessIssue]
        return super().forward(x)  # pyright: ignore[reportAttributeAccessIssue]

    rule = _held_option("rule", "Spec of the target rule.")
    weighting = _held_option(
        "weighting", 'Weight of each unit\'s loss: ``"grad"`` (|g|) or ``"mean"`` (1/N).'
    )
    staircase = _held_option(
        "staircase", 'Form of the rule on more than two levels: ``"single"`` or ``"sum"``.'
    )
    saved = _held_option(
        "saved", 'What is kept for backward: ``"exact"`` (the input) or ``"compact"`` (its slopes).'
    )

    def _option(self, name: str) -> str:
        tensor_quant = tensor_quant_of(self)
        if tensor_quant is None:
            chosen = vars(self).get("chosen_options", {})
            return chosen.get(name) or getattr(self.quant_injector, name)
        return getattr(rule_holder(tensor_quant), name)

    def _set_options(self, **options: str) -> None:
        new = {name: self._option(name) for name in OPTIONS} | options
        new["rule"] = check_options(**new)
        self._check_weighting(new["weighting"])
        # Not bound to the injector: each binding would make its class hierarchy longer.
        self.chosen_options = new
        self.options_before = self._bound_options()
        self._apply_options()

    def _apply_options(self) -> None:
        tensor_quant = tensor_quant_of(self)
        if tensor_quant is not None:
            bound = self._bound_options()
            before = vars(self).get("options_before", bound)
            for name, value in vars(self).get("chosen_options", {}).items():
                # What has been bound since is the later choice.
                if before.get(name) == bound.get(name):
                    setattr(rule_holder(tensor_quant), name, value)

    def _bound_options(self) -> dict[str, str]:
        injector = self.quant_injector
        return {name: getattr(injector, name) for name in OPTIONS if name in injector}

    @contextmanager
    def _initialised(self) -> Iterator[None]:
        """Around an initialisation: one that raises, or leaves no target rule, is undone."""
        state, modules = vars(self).copy(), vars(self)["_modules"].copy()
        config = brevitas.config
        flags = config.REINIT_ON_STATE_DICT_LOAD, config.IGNORE_MISSING_KEYS
        try:
            yield
            self._check_kind()
            self._apply_options()
        except BaseException:
            vars(self).clear()
            vars(self).update(state, _modules=modules)
            config.REINIT_ON_STATE_DICT_LOAD, config.IGNORE_MISSING_KEYS = flags
            raise

    def _check_kind(self) -> None:
        tensor_quant = tensor_quant_of(self)
        if tensor_quant is not None and not hasattr(rule_holder(tensor_quant), "rule"):
            raise TypeError(
                f"{type(rule_holder(tensor_quant)).__name__} is bound in place of a target-prop "
                "quantizer and follows no rule: restore_quantizers before you bind it"
            )
        # A target-prop quantizer stays what it is, whatever type the injector asks for.
        asked = quant_type_of(self.quant_injector)
        made_for = vars(self).setdefault("made_for", asked)
        if asked != made_for:
            raise TypeError(
                f"quant_type asks for {asked}, but the quantizer was made for {made_for}: "
                "restore_quantizers before you bind another type, and convert again after"
            )

    def _check_weighting(self, weighting: str) -> None:
        pass

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={self._option(name)}" for name in OPTIONS)


class TargetPropActQuantProxy(TargetPropProxy, ActQuantProxyFromInjector):
    """Activation proxy whose quantizer's gradient follows a target rule.

    >>> from brevitas.nn import QuantIdentity
    >>> from brevitas_ftprop.quant import TargetPropInt8ActPerTensorFloat
    >>> act = QuantIdentity(act_quant=TargetPropInt8ActPerTensorFloat, bit_width=2, rule="hinge")
    >>> print(str(act.act_quant).splitlines()[1].strip())
    rule=hinge, weighting=grad, staircase=single, saved=exact
    """

    def init_tensor_quant(self) -> None:
        with self._initialised():
            super().init_tensor_quant()
        fuse_relu(self.fused_activation_quant_proxy)

    def create_quant_tensor(self, qt_args: Any, x: Any) -> Any:
        if isinstance(qt_args, tuple) and is_unseen(*qt_args):
            # Brevitas would make two tensors of these at every step.
            return IntQuantTensor(*qt_args, TRUTH[self.is_signed], TRUTH[self.training])  # pyright: ignore[reportArgumentType, reportCallIssue]
        return super().create_quant_tensor(qt_args, x)


class TargetPropWeightQuantProxy(TargetPropProxy, WeightQuantProxyFromInjector):
    """Weight proxy whose quantizer's gradient follows a target rule.

    Weights take ``weighting="grad"`` only: the first dimension of a weight is the number of
    output channels, not a batch.

    Raises:
        ValueError: for 1/N weighting.

    >>> from brevitas.nn import QuantLinear
    >>> from brevitas_ftprop.quant import TargetPropInt8WeightPerTensorFloat
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropInt8WeightPerTensorFloat,
    ...                  weight_bit_width=4, weight_rule="ste")
    >>> fc.weight_quant.rule
    'ste'
    """

    def init_tensor_quant(self, preserve_state_dict: bool = False) -> None:
        self._check_weighting(self.quant_injector.weighting)
        with self._initialised():
            super().init_tensor_quant(preserve_state_dict)

    def _check_weighting(self, weighting: str) -> None:
        if weighting == "mean":
            raise ValueError(
                'weighting="mean" is for activations: a weight\'s first dimension is not a '
                'batch; use weighting="grad" for weights'
            )


def advance_rules(model: nn.Module, progress: float) -> None:
    """Bring every quantizer's rule to a point of training; only ``ede`` and ``reste`` change.

    Both papers do so once an epoch. Nothing is rebuilt, and nothing waits for the device; but
    ``torch.compile`` compiles a model anew for each new rule. After more than
    ``torch._dynamo.config.recompile_limit`` (8) it runs uncompiled, or raises with
    ``fullgraph=True``.

    Args:
        model: any model, before or after training has begun.
        progress: share of the training that is done, in [0, 1].

    Raises:
        ValueError: for a progress out of [0, 1].

    >>> from brevitas.nn import QuantIdentity
    >>> from brevitas_ftprop.quant import TargetPropSignedBinaryActPerTensorConst
    >>> act = QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst, rule="reste")
    >>> advance_rules(act, 0.5)
    >>> act.act_quant.rule
    'reste(progress=0.5)'
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress is the share of training that is done, not {progress}")
    for module in model.modules():
        if isinstance(module, TargetPropProxy):
            rule = get_rule(module.rule)
            if rule.at(progress) != rule:
                module.rule = rule.at(progress).spec
