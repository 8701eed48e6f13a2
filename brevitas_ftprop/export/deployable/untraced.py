"""What can be told of a model before it is traced, for every target."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ..checks import not_finite
from ..errors import ExportError
from ..float32 import EXACT_BITS
from ..quantizers import WEIGHT, exported_levels, kind_of, leveled_proxies
from ..state import export_state
from .finding import ERROR, Finding

QCDQ_BITS = 8
STOPS = "Loud: the export stops there."

_error = partial(Finding, ERROR)


def untraced_findings(model: Module, example: Tensor, target: str) -> Iterator[Finding]:
    """Findings about the model's signature, its parameters and its quantizers.

    All are errors, and any makes tracing pointless.
    """
    yield from _inputs(model)
    yield from _quantizers(model, target)
    for name in not_finite(model):
        yield _error(
            name.rpartition(".")[0] or name,
            "not-finite",
            f"{name} has values that are not finite",
            "Loud: nothing behind it has a value, and verification stops there.",
            "go back to a checkpoint whose values are finite, with a lower learning rate",
        )
    yield from _output(model, example, target)
    if target == "finn" and example.shape[0] != 1:
        yield _error(
            "model",
            "batch-of-one",
            f"the example has {example.shape[0]} images",
            "Loud: a dataflow accelerator takes one image at a time.",
            "give one image as example_input",
        )


def _inputs(model: Module) -> Iterator[Finding]:
    required = [
        parameter.name
        for parameter in inspect.signature(model.forward).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if len(required) > 1:
        yield _error(
            "model",
            "one-input",
            f"forward takes {', '.join(required)}",
            STOPS,
            "wrap the model in a module whose forward takes one tensor",
        )


def _quantizers(model: Module, target: str) -> Iterator[Finding]:
    for name, proxy in leveled_proxies(model).items():
        try:
            bits = exported_levels(proxy).bit_width
        except ExportError as error:
            yield _error(
                name,
                "quantizer-levels",
                str(error),
                "Loud: only quantizers with fixed integer levels can be exported and verified.",
                "use a binary, ternary, staircase or integer quantizer whose scale is a constant "
                "or a parameter, collect its statistics, and train past any delay",
            )
            continue
        if bits > (QCDQ_BITS if target == "qcdq" else EXACT_BITS):
            yield _error(
                name,
                "bits",
                f"{bits} bits",
                "Loud: QuantizeLinear holds integers of 8 bits or fewer here, and float32, in "
                "which all is checked, of 24.",
                "use bit_width=8 or less" + ", or export to QONNX" * (target == "qcdq"),
            )
        if target == "qcdq" and kind_of(proxy) == WEIGHT and len(_shared(proxy)) > 1:
            yield _error(
                name,
                "shared-weight-quantizer",
                f"{len(_shared(proxy))} layers share this quantizer",
                "Loud: a file holds the integers of each layer, and a shared quantizer has "
                "several.",
                "give each layer a weight quantizer of its own",
            )


def _shared(proxy: Any) -> list[Tensor]:
    return proxy.tracked_parameter_list


def _output(model: Module, example: Tensor, target: str) -> Iterator[Finding]:
    try:
        with export_state(model), torch.no_grad():
            output = model.eval()(example.detach().clone())
    except Exception:
        # Tracing fails on the same input, and names the layer.
        return
    if not isinstance(output, Tensor) or isinstance(output, tuple):
        yield _error(
            "model",
            "one-output",
            f"the model returns a {type(output).__name__}",
            STOPS,
            "return one plain tensor; return_quant_tensor=False on the last layer",
        )
    elif target != "qcdq" and not output.is_floating_point():
        yield _error(
            "model",
            "float-output",
            f"the model returns {output.dtype}",
            "Loud: what is compared with PyTorch are logits.",
            "leave argmax and the like out of it, so that it returns logits",
        )
