"""Searching for targets in ordinary training: around the usual forward and backward passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from brevitas.proxy import ActQuantProxyFromInjector
from brevitas.quant_tensor import IntQuantTensor
from torch import Generator, Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from ..core import step_of
from ..kernels import Sign
from ..levels import remaining_delay, tensor_quant_of
from ..targets import Targets, TargetSetter, get_setter, sign_target
from ..units import reason_not_to_watch
from .layer_above import LayerAbove
from .measuring import Choice, measured_falls
from .recording import NotRepeatableError, Recording
from .target_report import LayerTargets, TargetReport
from .uncompiled import refuse_compiled
from .unit_call import UnitCall


def search_targets(
    model: nn.Module,
    setter: str | TargetSetter,
    *,
    every: int = 1,
    where: Callable[[str, nn.Module], bool] | None = None,
    seed: int = 0,
) -> TargetSearch:
    """Let a target setter choose the targets of a model's sign units in the passes that follow.

    In each backward pass, from the top down, the setter is asked for targets t and weights w of a
    layer as soon as the gradient g of its output is there, and the quantizer's rule follows −w·t in
    place of g. Outputs, statistics and random numbers of the training stay what they are.

    Quantizers of more than two levels, and layers of which the layer above cannot be computed
    again, keep −sign(g) and |g|; ``left`` says which and why.

    Args:
        model: any model with Brevitas quantizers, not compiled.
        setter: spec of a registered target setter, or one.
        every: search in each ``every``-th forward pass of the model with gradients, from the first
            on; where only parts of it are called, in all.
        where: keeps the quantizers for whose proxies it is true, given name and proxy.
        seed: of the setter's random numbers, which are the search's own.

    Returns:
        A context manager, which has to be entered; see :class:`TargetSearch`.

    Raises:
        TypeError: if ``model`` is no module.
        ValueError: for an unknown setter, an ``every`` that is no positive integer, a model without
            activation quantizers, or one that is compiled or searched already.

    >>> from brevitas.nn import QuantIdentity
    >>> from brevitas_ftprop.quant import TargetPropSignedBinaryActPerTensorConst as Sign
    >>> act, top = QuantIdentity(act_quant=Sign), nn.Linear(2, 1, bias=False)
    >>> _ = top.weight.data.copy_(torch.tensor([[2.0, 1.0]]))
    >>> x = torch.tensor([[0.5, -0.5]], requires_grad=True)
    >>> with search_targets(act, "local_search(candidates=8)") as search:
    ...     top(act(x)).square().sum().backward()
    >>> print(search.report())
    act_quant: 2 targets, 50.0 % other than −sign(g)
    """
    return TargetSearch(model, setter, every=every, where=where, seed=seed)


class TargetSearch:
    """A search for targets, between ``with`` and its end.

    Attributes:
        setter: that chooses the targets.
        served: quantizers whose targets the setter is asked for.
        left: quantizers that keep −sign(g) and |g|, with the reason.
    """

    def __init__(
        self,
        model: nn.Module,
        setter: str | TargetSetter,
        *,
        every: int = 1,
        where: Callable[[str, nn.Module], bool] | None = None,
        seed: int = 0,
    ):
        if not isinstance(model, nn.Module):
            raise TypeError(f"expected a torch.nn.Module with Brevitas layers, not {model!r}")
        check_every(every)
        self.setter = get_setter(setter)
        self.left: dict[str, str] = {}
        self._layers: dict[str, LayerTargets] = {}
        self._choices: list[Choice] | None = None
        self._model, self._every = model, every
        self._seed = seed
        self._generators: dict[torch.device, Generator] = {}
        self._proxies = self._known_units()
        refuse_compiled(model, self._proxies)
        self._handles: list[Any] = []
        self.served = self._binary(where)
        # The first pass is searched, and all of them where only parts of the model are called.
        self._passes = -1
        self._recording: Recording | None = None
        # By layer above, the losses that explain its gradient, or why none does.
        self._explained: dict[tuple, tuple[int, ...] | str] = {}

    def __enter__(self) -> TargetSearch:
        if self.setter.is_default:
            return self
        for name, proxy in self._proxies.items():
            if any(isinstance(hook, _Hook) for hook in proxy._forward_hooks.values()):
                raise ValueError(f"{name} is searched already: end that search first")
        for name, proxy in self._proxies.items():
            self._attach(name, proxy)
        self._handles.append(self._model.register_forward_pre_hook(_Hook(self._count_pass)))
        self._recording = Recording()
        self._recording.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._recording is not None:
            self._recording.__exit__(*error)
            self._recording = None
        self._detach()

    def report(self) -> TargetReport:
        """What has been chosen so far: for each layer, how many targets differ from −sign(g)."""
        return TargetReport(dict(self._layers), dict(self.left))

    def measure(self, loss: Callable[[], Tensor], *, step: float = 0.01) -> TargetReport:
        """By how much the loss above each layer falls after a step for its targets, measured.

        On one mini-batch, each layer's parameters take a step against the gradient of its layer
        loss, its inputs held fixed: of −sign(g) and |g| for ``default_fall``, of the chosen targets
        for ``fall``. The loss above is computed for the outputs before and after, with batch
        statistics held. Parameters, statistics, gradients and random numbers are then as before.

        Args:
            loss: computes the loss on the mini-batch, as a rule ``lambda: loss(model(x), y)``.
            step: length of the step, relative to each parameter's own norm.

        Returns:
            The report, with both falls for each layer.

        Raises:
            RuntimeError: outside ``with``, and for a setter that is the default.
            ValueError: if the loss does not depend on the model or is not finite.
        """
        if self._recording is None:
            raise RuntimeError(f"nothing is searched for {self.setter} outside of `with`")
        self._choices = []
        try:
            with self._as_it_was():
                falls = measured_falls(self._model, loss, self._choices, step)
        finally:
            self._choices = None
        for name, (fall, default_fall) in falls.items():
            self._layers[name].fall, self._layers[name].default_fall = fall, default_fall
        return self.report()

    @contextmanager
    def _as_it_was(self) -> Iterator[None]:
        """Inside, each pass is searched; afterwards counts and random numbers are as before."""
        passes, self._passes = self._passes, -1
        states = {device: each.get_state() for device, each in self._generators.items()}
        try:
            yield
        finally:
            self._passes = passes
            self._generators = {
                device: Generator(device).set_state(state) for device, state in states.items()
            }

    def reseed(self, seed: int) -> None:
        """Start the setter's random numbers anew, so that a repeated step draws the same."""
        self._seed = seed
        self._generators = {}

    def _attach(self, name: str, proxy: ActQuantProxyFromInjector) -> None:
        def enter(proxy: Any, args: tuple) -> None:
            recording = self._recorded()
            if recording is not None:
                recording.hide()

        def leave(proxy: Any, args: tuple, output: Any) -> None:
            recording = self._recorded()
            if recording is None:
                return
            x, call = getattr(args[0], "value", args[0]), None
            if self._wants(proxy, x, output):
                call = UnitCall(name, proxy, x, output, recording.add(output.value))
            recording.show()
            if call is None:
                return
            h = output.value
            before = recording.of(x)
            if before is not None:
                before.readers.append(call)
                if x.requires_grad:
                    x.register_hook(lambda grad: setattr(call, "passed", grad))
            if name in self.served:
                h.register_hook(lambda grad: self._choose(call, call.output, grad))
            else:
                h.register_hook(call.follow)

        self._handles += [
            proxy.register_forward_pre_hook(_Hook(enter)),
            proxy.register_forward_hook(_Hook(leave), always_call=True),
        ]

    def _count_pass(self, model: nn.Module, args: tuple) -> None:
        if self._recording is not None and self._recording.is_under_way:
            self._passes += 1

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _known_units(self) -> dict[str, ActQuantProxyFromInjector]:
        proxies = {}
        for name, module in self._model.named_modules():
            if isinstance(module, ActQuantProxyFromInjector) and module.is_quant_enabled:
                reason = reason_not_to_watch(tensor_quant_of(module))
                if reason is None:
                    proxies[name] = module
                else:
                    self.left[name] = reason
        if not proxies:
            raise ValueError(
                f"{type(self._model).__name__} has no activation quantizers whose targets could be "
                "searched for"
            )
        return proxies

    def _binary(self, where: Callable[[str, nn.Module], bool] | None) -> set[str]:
        served = set()
        for name, proxy in self._proxies.items():
            if step_of(tensor_quant_of(proxy)) != Sign():
                self.left[name] = "it has more than two levels, and targets are −1 and +1"
            elif where is not None and not where(name, proxy):
                self.left[name] = "where leaves it out"
            else:
                served.add(name)
        return served

    def _recorded(self) -> Recording | None:
        """The recording, if what runs now is the forward pass of a step that is searched."""
        recording = self._recording
        if recording is None or not recording.is_under_way:
            return None
        return None if self._passes > 0 and self._passes % self._every else recording

    def _wants(self, proxy: Any, x: Tensor, output: Any) -> bool:
        # Brevitas asks activations for their scale with a tensor of no dimensions.
        return (
            isinstance(output, IntQuantTensor)
            and output.value.requires_grad
            and x.dim() > 0
            and x.numel() > 0
            and remaining_delay(tensor_quant_of(proxy)) == 0
        )

    def _choose(self, call: UnitCall, h: Tensor, grad: Tensor) -> Tensor | None:
        """What a call's rule follows in place of a gradient; None leaves the gradient as it is."""
        call.follow(grad)
        try:
            above = self._layer_above(call, h, grad)
            with torch.no_grad(), _disable_current_modes():
                targets = self.setter.choose(h, grad, above, self._generator(h.device))
        except NotRepeatableError as reason:
            self.left[call.name] = str(reason)
            return None
        followed = _checked(self.setter, targets, grad)
        call.follow(followed)
        layer = self._layers.setdefault(call.name, LayerTargets())
        layer.chosen += grad.numel()
        layer.differing += int(torch.count_nonzero(targets.target - sign_target(grad)))
        if self._choices is not None:
            self._choices.append(Choice(call.name, h, grad, above))
        return followed

    def _layer_above(self, call: UnitCall, h: Tensor, grad: Tensor) -> LayerAbove:
        if not _is_finite(grad):
            raise NotRepeatableError("its gradient was not finite")
        if call.is_overwritten:
            raise NotRepeatableError("its output is overwritten in place")
        above = LayerAbove(call)
        # What ran is another layer than before only where forward branches.
        key = (call.name, h.shape, *(node.func for node in above.nodes))
        explained = self._explained.get(key)
        if isinstance(explained, str):
            raise NotRepeatableError(explained)
        if explained is not None and not above.reaches_a_scalar:
            return above
        # Which scalar is the loss, and what it is multiplied by, may change from pass to pass.
        if explained is None or not above.explains(explained, h, grad):
            try:
                self._explained[key] = above.explained(h, grad)
            except NotRepeatableError as reason:
                self._explained.setdefault(key, str(reason))
                raise
        return above

    def _generator(self, device: torch.device) -> Generator:
        if device not in self._generators:
            self._generators[device] = Generator(device).manual_seed(self._seed)
        return self._generators[device]


class _Hook:
    """A forward hook of a search; a copy of the model, or its file, is not searched."""

    def __init__(self, call: Callable[..., None]):
        self._call = call

    def __call__(self, module: Any, *given: Any) -> None:
        # A compiler leaves it alone.
        torch.compiler.disable(self._call)(module, *given)

    def __reduce__(self) -> tuple:
        return _Hook, (_nothing,)


def check_every(every: int) -> None:
    """Raise a ValueError unless ``every`` is a positive integer."""
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ValueError(f"every must be a positive integer, not {every!r}")


def _nothing(*args: Any) -> None:
    return None


def _is_finite(tensor: Tensor) -> bool:
    # One number says it, without a tensor of truths.
    return bool(tensor.sum(dtype=torch.float64).isfinite())


def _checked(setter: TargetSetter, targets: Targets, grad: Tensor) -> Tensor:
    """What the rule follows for targets, which have to be such of the gradient's units."""
    if not isinstance(targets, Targets):
        raise TypeError(f"{setter} must give Targets(target, weight), not {type(targets).__name__}")
    for name, each in targets._asdict().items():
        if not isinstance(each, Tensor) or each.shape != grad.shape or each.device != grad.device:
            raise ValueError(
                f"{setter} must give a {name} of shape {tuple(grad.shape)} on {grad.device}"
            )
        if each.dtype == torch.bool or each.is_complex():
            raise ValueError(f"{setter} must give a {name} of real numbers, not of {each.dtype}")
    followed = targets.followed
    if not _is_finite(followed):
        raise ValueError(f"{setter} gave targets or weights that are not finite")
    return followed.to(grad.dtype)
