"""A model cut at its quantizers: every layer computes with the inputs that it had before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from brevitas.proxy import ActQuantProxyFromInjector
from brevitas.quant_tensor import IntQuantTensor
from torch import Tensor, nn

from ..levels import tensor_quant_of
from ..units import activation_before, reason_not_to_watch, units_of
from .recording import Recording


class HeldCall:
    """A quantizer's call: what it gave, the gradient that came back, and what it gives now.

    Attributes:
        name: of the quantizer's proxy.
        held: its output in the pass that was kept, detached.
        grad: gradient of that output, or −w·t of the targets in its place; None if none came.
        x, y: input and output in the last cut pass.
    """

    def __init__(self, name: str, proxy: Any, output: IntQuantTensor):
        self.name, self._proxy = name, proxy
        self.held = type(output)(
            *(each.detach() if isinstance(each, Tensor) else each for each in output)
        )
        self.grad: Tensor | None = None
        self.x: Tensor | None = None
        self.y: Tensor | None = None

    def loss(self) -> Tensor:
        """Layer loss of its units in the last cut pass, summed; its scale is held fixed."""
        assert self.x is not None
        assert self.grad is not None
        act, quant = activation_before(self._proxy), tensor_quant_of(self._proxy)
        z = self.x if act is None else act(self.x.clone())
        held = self.held
        units = units_of(quant, z, held.scale, held.zero_point, held.bit_width)
        return units.layer_loss(self.grad).sum()


class HeldInputs:
    """The outputs of a model's quantizers on one mini-batch, held as the inputs of its layers.

    Statistics, counts and random numbers advance once, in the kept pass.

    Args:
        model: with Brevitas activation quantizers.
        loss: computes the loss on the mini-batch, as a rule ``lambda: loss(model(x), y)``.

    Raises:
        ValueError: for a model without such quantizers.
    """

    def __init__(self, model: nn.Module, loss: Callable[[], Tensor]):
        self._model, self._loss = model, loss
        self._proxies = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, ActQuantProxyFromInjector)
            and module.is_quant_enabled
            and reason_not_to_watch(tensor_quant_of(module)) is None
        }
        if not self._proxies:
            raise ValueError(f"{type(model).__name__} has no activation quantizers to cut it at")
        self.calls: list[HeldCall] = []
        self._random = _random_state(model)

    def keep(self) -> Tensor:
        """The loss of the pass whose outputs are held; its backward pass brings the gradients.

        Raises:
            ValueError: if the loss does not depend on the model, or is not finite.
        """

        def keep(name: str, proxy: Any, args: tuple, output: Any) -> None:
            if isinstance(output, IntQuantTensor) and output.value.requires_grad:
                call = HeldCall(name, proxy, output)
                self.calls.append(call)
                output.value.register_hook(lambda grad: setattr(call, "grad", grad))

        with as_it_was(self._model, after_errors_only=True):
            with self._hooked(keep):
                value = self._loss()
            self._check(value)
        return value

    def _check(self, value: Any) -> None:
        if not isinstance(value, Tensor) or not value.requires_grad or not self.calls:
            raise ValueError("the loss does not depend on the model's quantizers")
        if not bool(value.detach().isfinite()):
            raise ValueError(f"the loss is {float(value.detach())}, not a finite number")

    @contextmanager
    def cut(self) -> Iterator[Tensor]:
        """The loss of a pass in which each layer computes with the inputs held.

        Statistics and counts are as before when the context ends, which a backward pass that needs
        them must not outlive.
        """
        pending = iter(self.calls)

        def hold(name: str, proxy: Any, args: tuple, output: Any) -> Any:
            if not isinstance(output, IntQuantTensor) or not output.value.requires_grad:
                return None
            call = next(pending, None)
            if call is None or call.name != name:
                raise ValueError(
                    f"{name} ran in another order than before: forward must not change"
                )
            call.x, call.y = getattr(args[0], "value", args[0]), output.value
            return call.held

        with Recording.paused(), as_it_was(self._model), _seeded(self._random), self._hooked(hold):
            yield self._loss()

    def differentiate(self, follow: Mapping[HeldCall, Tensor] | None = None) -> None:
        """Add the gradient of every layer's own loss, its inputs held, to the parameters'.

        Args:
            follow: what calls follow in place of their ``grad``.
        """
        with self.cut() as value:
            calls = {call: call.y for call in self.reached if call.y is not None}
            grads = [(follow or {}).get(call, call.grad) for call in calls]
            torch.autograd.backward([value, *calls.values()], [None, *grads])

    @property
    def reached(self) -> list[HeldCall]:
        """The calls that a gradient came back to."""
        return [call for call in self.calls if call.grad is not None]

    @contextmanager
    def _hooked(self, hook: Callable[..., Any]) -> Iterator[None]:
        with ExitStack() as hooks:
            for name, proxy in self._proxies.items():
                handle = proxy.register_forward_hook(
                    lambda proxy, args, output, name=name: hook(name, proxy, args, output)
                )
                hooks.callback(handle.remove)
            yield


@contextmanager
def as_it_was(model: nn.Module, *, after_errors_only: bool = False) -> Iterator[None]:
    """Buffers and counts of a model are afterwards what they were."""
    modules = list(model.modules())
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    counts = [{name: each for name, each in vars(m).items() if type(each) is int} for m in modules]
    named = [dict(module._buffers) for module in modules]
    failed = True
    try:
        yield
        failed = False
    finally:
        if failed or not after_errors_only:
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)
            for module, numbers, by_name in zip(modules, counts, named, strict=True):
                vars(module).update(numbers)
                module._buffers.update(by_name)


def _random_state(model: nn.Module) -> tuple[Tensor, dict[torch.device, Tensor]]:
    devices = {each.device for each in model.parameters() if each.device.type == "cuda"}
    return torch.get_rng_state(), {each: torch.cuda.get_rng_state(each) for each in devices}


@contextmanager
def _seeded(state: tuple[Tensor, dict[torch.device, Tensor]]) -> Iterator[None]:
    """Random numbers from a state on; afterwards they go on from where they were."""
    cpu, devices = state
    with torch.random.fork_rng(devices=[each.index for each in devices]):
        torch.set_rng_state(cpu)
        for device, value in devices.items():
            torch.cuda.set_rng_state(value, device)
        yield
