"""Measuring what targets are worth: one step of each layer for them, and the loss above it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .held_inputs import HeldCall, HeldInputs, as_it_was
from .layer_above import LayerAbove


@dataclass(frozen=True, eq=False)
class Choice:
    """A call whose targets were chosen: its output, the gradient, and the layer above."""

    name: str
    h: Tensor
    grad: Tensor
    above: LayerAbove


def measured_falls(
    model: nn.Module, loss: Callable[[], Tensor], choices: list[Choice], step: float
) -> dict[str, tuple[float, float]]:
    """Falls of the losses above after a step for chosen targets, and for −sign(g), by quantizer.

    Args:
        model: that is searched.
        loss: of the mini-batch.
        choices: to which the search adds as the loss is differentiated.
        step: length of the step, relative to each parameter's norm.
    """
    held = HeldInputs(model, loss)
    devices = {each.device for each in model.parameters() if each.device.type == "cuda"}
    with as_it_was(model), torch.random.fork_rng(list(devices)), _gradients_set_aside(model):
        held.keep().backward()
        by_output = {choice.h.data_ptr(): choice for choice in choices}
        calls = {
            call: by_output[call.held.value.data_ptr()]
            for call in held.reached
            if call.held.value.data_ptr() in by_output
        }
        default = {call: choice.grad for call, choice in calls.items()}
        falls = [_falls(model, held, calls, follow, step) for follow in ({}, default)]
    return {
        name: (falls[0][name], falls[1][name])
        for name in dict.fromkeys(choice.name for choice in calls.values())
    }


def _falls(
    model: nn.Module,
    held: HeldInputs,
    calls: dict[HeldCall, Choice],
    follow: dict[HeldCall, Tensor],
    step: float,
) -> dict[str, float]:
    model.zero_grad()
    held.differentiate(follow)
    with _stepped(model, step), held.cut():
        outputs = {call: call.y.detach() for call in calls if call.y is not None}
    falls: dict[str, float] = {}
    with torch.no_grad():
        for call, choice in calls.items():
            before, after = choice.above.losses(choice.h), choice.above.losses(outputs[call])
            falls[choice.name] = falls.get(choice.name, 0.0) + float((before - after).sum())
    return falls


@contextmanager
def _stepped(model: nn.Module, step: float) -> Iterator[None]:
    """Parameters a step against their gradients; afterwards they are what they were."""
    # Other storage: what was recorded holds that of the parameters.
    before = {parameter: parameter.data for parameter in model.parameters()}
    try:
        for parameter, data in before.items():
            if parameter.grad is not None and bool(parameter.grad.any()):
                length = step * data.norm() / parameter.grad.norm()
                parameter.data = data - length * parameter.grad
        yield
    finally:
        for parameter, data in before.items():
            parameter.data = data


@contextmanager
def _gradients_set_aside(model: nn.Module) -> Iterator[None]:
    gradients = {parameter: parameter.grad for parameter in model.parameters()}
    try:
        model.zero_grad()
        yield
    finally:
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
