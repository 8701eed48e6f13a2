"""What a PyTorch model's quantizers see and give."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Module

from ...levels import tensor_quant_of
from ..errors import VerificationError


@dataclass(frozen=True)
class Call:
    """Input and output of one call of a quantizer, float32; the input is taken after the fused
    activation function."""

    source: Tensor
    result: Tensor


@dataclass(frozen=True)
class Captured:
    """One forward pass: the model's output and each quantizer's calls, in order."""

    output: Tensor
    calls: dict[str, list[Call]]


def capture(model: Module, proxies: Mapping[str, Module], batch: Tensor) -> Captured:
    """Run ``model`` on ``batch`` and record the calls of ``proxies``.

    The model should be in evaluation mode; the hooks are removed again in every case.

    Raises:
        VerificationError: if the input of a quantizer is not finite (names it), or the model's
            output is not one tensor of floating-point numbers.
    """
    calls: dict[str, list[Call]] = {name: [] for name in proxies}
    with ExitStack() as hooks, torch.no_grad():
        for name, proxy in proxies.items():
            record = _recording(name, calls[name])
            hooks.enter_context(tensor_quant_of(proxy).register_forward_hook(record))
        output = model(batch)
    value = getattr(output, "value", output)
    if not isinstance(value, Tensor):
        raise VerificationError(
            f"the model returns {type(output).__name__}; models that return one tensor can be "
            "verified"
        )
    if not value.is_floating_point():
        raise VerificationError(
            f"the model returns {value.dtype}: leave argmax and the like out of it, so that it "
            "returns logits"
        )
    return Captured(value, calls)


def _recording(name: str, calls: list[Call]):
    def record(module: Module, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
        source = inputs[0].detach()
        # Brevitas asks for scales with a zero-dimensional probe.
        if source.dim() == 0:
            return
        if not bool(torch.isfinite(source).all()):
            raise VerificationError(f"the input of {name} is not finite on this batch")
        calls.append(Call(source.clone(), outputs[0].detach().clone()))

    return record
