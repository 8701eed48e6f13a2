"""Failures of a run that the user can do something about, each told in one sentence."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from brevitas.proxy.quant_proxy import QuantProxyFromInjector
from torch import Tensor, nn


class TrainingError(RuntimeError):
    """A run that cannot start or go on, and why."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until a file is written: torch's writer would raise errors of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if came:
        signal.raise_signal(signal.SIGINT)


@contextmanager
def explained_memory(images: int, accumulate: int) -> Iterator[None]:
    """Tell of a batch that does not fit into memory by its size, and what to change."""
    try:
        yield
    except RuntimeError as error:
        # The CPU's allocator has no exception of its own.
        on_cpu = "DefaultCPUAllocator" in str(error)
        if not (isinstance(error, torch.OutOfMemoryError) or on_cpu):
            raise
        raise TrainingError(
            f"a batch of {images} images does not fit into memory: raise accumulate (now "
            f"{accumulate}), which computes the same step in smaller parts, or lower batch_size"
        ) from error


def first_non_finite(network: nn.Module, images: Tensor, loss: Callable[[Tensor], Tensor]) -> str:
    """Which layer of a network first has a non-finite parameter, output or gradient.

    Outputs are looked at in the order of the forward pass, then gradients in that of the backward
    pass, which starts at the loss.
    """
    if not bool(torch.isfinite(images).all()):
        return "the images hold values that are not finite"
    for name, parameter in network.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return f"{name} has values that are not finite"
    found: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def look(module: nn.Module, args: object, output: object) -> None:
            value = getattr(output, "value", output)
            if not isinstance(value, Tensor):
                return
            if not bool(torch.isfinite(value).all()):
                found.append(f"the output of layer {name} has values that are not finite")
            if value.requires_grad:
                value.register_hook(lambda grad: look_at_gradient(name, grad))

        return look

    def look_at_gradient(name: str, grad: Tensor) -> None:
        if not bool(torch.isfinite(grad).all()):
            found.append(f"the gradient of layer {name}'s output has values that are not finite")

    hooks = [
        module.register_forward_hook(watch(name)) for name, module in layers_of(network) if name
    ]
    try:
        value = loss(network(images))
        value.backward()
    finally:
        for hook in hooks:
            hook.remove()
    if not found and not bool(torch.isfinite(value)):
        found.append("the loss is not finite, though every layer's output is")
    for name, parameter in network.named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            found.append(f"the gradient of {name} has values that are not finite")
    return found[0] if found else "no layer's output or gradient was non-finite when computed again"


def layers_of(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """All modules, what lies inside a quantizer left out."""
    yield prefix, module
    if not isinstance(module, QuantProxyFromInjector):
        for name, child in module.named_children():
            yield from layers_of(child, f"{prefix}.{name}" if prefix else name)
