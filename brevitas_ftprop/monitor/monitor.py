"""Watching target propagation in a model that trains."""

from collections.abc import Callable
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
from brevitas.proxy import ActQuantProxyFromInjector, WeightQuantProxyFromInjector
from brevitas.proxy.quant_proxy import QuantProxyFromInjector
from torch import Tensor, nn

from ..levels import remaining_delay, tensor_quant_of
from ..units import reason_not_to_watch
from .evaluation import evaluating
from .metrics import METRICS, flips, read, signs, summarize
from .probe import check_probe, probe_loss
from .watch import Watch

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table


class Monitor:
    """Metrics of target propagation for every quantizer of a model, while it trains.

    Nothing of the training changes: outputs, gradients, random numbers and state dict stay bit for
    bit what they are without. On every ``every``-th step a fixed random sample of each quantizer's
    units is looked at (the same features of each image; of weights, the same elements). With m =
    t·z the margin in the terms of the quantizer's own rule (z = x/s for sign; for more levels the
    u that is ±1 at the ends of the range), t = −sign(∂L/∂h) the target and s the slope:

    - ``at_target``: share of units with z on their target's side. For sign these are the units
      whose output equals its target; with more levels, those in the half that it asks for.
    - ``dead``: share of units with slope exactly 0, a ReLU before the quantizer included.
    - ``with_target``: share of units with a gradient; both shares above and the histogram are of
      these units.
    - ``margins``: shares of the margins in the bins between :data:`MARGIN_EDGES`, the first and the
      last bin being open.
    - ``grad_in``, ``grad_out``: L2 norm of the gradient that enters at the quantizer's output, and
      of what its rule passes on, estimated from the sample for the whole tensor.
    - ``estimating_error``: ‖q(z) − f(z)‖₂ of the levels q and the function f whose derivative the
      rule passes off as the quantizer's, f(z) = t·(ℓ(0) − ℓ(t·z)) on sign; NaN without a loss.
    - ``gradient_instability``: variance of the leaving gradient's absolute values.
    - ``output_flips``, ``target_flips``: share of units whose output and target changed sign since
      the last sampled step. A weight's output is its latent sign, and its target that of the step's
      own mini-batch. An activation's depend on the images too, so they are compared on a fixed
      ``probe`` and None without one; the probe runs in eval mode.

    Gradient accumulation, and calls of a shared quantizer, are pooled. Forward passes without
    gradient or in eval mode are not looked at. In a distributed run each process watches its own
    share of the batch.

    Args:
        model: any model with Brevitas quantizers, target-prop or stock (for which the rule with the
            same gradient stands in).
        every: steps from one sample to the next.
        units: features of each image, or elements of each weight, in the sample.
        probe: a fixed batch ``(images, labels)``, whose loss is the model's cross-entropy, or a
            function without arguments that computes the loss on one, as a rule
            ``lambda: loss(model(images), labels)``; it costs a forward and a backward pass every
            ``every`` steps.
        seed: chooses the sample.
        first_step: number of the first step, where training goes on from a checkpoint.

    Attributes:
        history: one entry a sampled step, ``{"step": int, "layers": {quantizer: metrics}}``.
        skipped: quantizers that are not watched, with the reason.
        sampling: whether the step that is under way is sampled.

    Raises:
        TypeError: if ``model`` is no module, or ``probe`` neither a batch nor a function.
        ValueError: for a model without quantizers that can be watched or one that is watched
            already, or for ``every`` or ``units`` that are no positive integers.

    >>> from brevitas.nn import QuantIdentity
    >>> from brevitas_ftprop.quant import TargetPropSignedBinaryActPerTensorConst
    >>> act = QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst, rule="saturated_ste")
    >>> x = torch.tensor([[-2.0, 0.5, 0.7, 3.0]], requires_grad=True)
    >>> with Monitor(act, every=1) as monitor:
    ...     (act(x) * torch.tensor([1.0, -1.0, 1.0, 0.0])).sum().backward()
    ...     metrics = monitor.step()["layers"]["act_quant"]
    >>> {name: round(metrics[name], 3) for name in ("at_target", "dead", "with_target")}
    {'at_target': 0.667, 'dead': 0.333, 'with_target': 0.75}

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573 (targets); Wu et al., ICCV 2023,
        arXiv:2308.06689 (estimating error, gradient stability); Helwegen et al., NeurIPS 2019,
        arXiv:1906.02107 (flips of weights).
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        every: int = 50,
        units: int = 256,
        probe: tuple[Tensor, Tensor] | Callable[[], Tensor] | None = None,
        seed: int = 0,
        first_step: int = 0,
    ):
        check_sample(every, units)
        check_probe(probe)
        proxies, self.skipped = _watchable(model)
        self.history: list[dict[str, Any]] = []
        self._model: nn.Module | None = model
        self._every, self._probe, self._step = every, probe_loss(model, probe), first_step
        self._watches = {
            name: Watch(proxy, units=units, seed=seed) for name, proxy in proxies.items()
        }
        self._handles = [
            proxy.register_forward_hook(self._watches[name]) for name, proxy in proxies.items()
        ]
        self._choose_sampling()

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Detach from the model and forget it; the history stays."""
        for handle in self._handles:
            handle.remove()
        self._set_recording(False)
        self._handles, self._watches = [], {}
        self._model = self._probe = None
        self.sampling = False

    def step(self, *, loss_scale: float = 1.0) -> dict[str, Any] | None:
        """Say that an optimizer step is done; call it once a step, after the backward passes.

        Args:
            loss_scale: what a ``GradScaler`` has multiplied the loss by.

        Returns:
            The new entry of the history if the step was sampled, else None.

        Raises:
            RuntimeError: if the monitor is closed.
        """
        if self._model is None:
            raise RuntimeError("the monitor is closed: make a new one to go on")
        entry = None
        if self.sampling:
            entry = {"step": self._step, "layers": self._metrics(loss_scale)}
            self.history.append(entry)
        self._step += 1
        self._choose_sampling()
        return entry

    def scalars(self) -> dict[str, float]:
        """Metrics of the last sampled step as ``{"quantizer/metric": value}``, those defined."""
        layers = self.history[-1]["layers"] if self.history else {}
        return {
            f"{name}/{metric}": metrics[metric]
            for name, metrics in layers.items()
            for metric in METRICS
            if metrics[metric] is not None
        }

    def write_scalars(self, writer: Any) -> None:
        """Write the last sampled step to a ``torch.utils.tensorboard.SummaryWriter``."""
        for tag, value in self.scalars().items():
            writer.add_scalar(tag, value, self.history[-1]["step"])

    def write_figure(self, writer: Any, tag: str = "target_prop") -> None:
        """Write the figure of the history to a ``torch.utils.tensorboard.SummaryWriter``.

        Raises:
            ImportError, ValueError: as :meth:`figure`.
        """
        writer.add_figure(tag, self.figure(), self.history[-1]["step"])

    def table(self) -> "Table":
        """The last sampled step as a Rich table, one row a quantizer.

        Raises:
            ImportError: if Rich is missing; says how to install it.
        """
        from .display import table

        return table(self.history)

    def figure(self) -> "Figure":
        """The whole history as one Matplotlib figure: a panel a metric, quantizers × time.

        Raises:
            ImportError: if Matplotlib is missing; says how to install it.
            ValueError: if no step has been sampled.
        """
        from .display import figure

        return figure(self.history)

    def _choose_sampling(self) -> None:
        self.sampling = self._step % self._every == 0
        self._set_recording(self.sampling)

    def _set_recording(self, recording: bool) -> None:
        for watch in self._watches.values():
            watch.recording = recording
            watch.calls = []

    def _metrics(self, loss_scale: float) -> dict[str, dict[str, Any]]:
        with torch.no_grad():
            taken = {name: watch.take() for name, watch in self._watches.items()}
            taken = {name: calls for name, calls in taken.items() if calls}
            layers = read({name: summarize(calls, loss_scale) for name, calls in taken.items()})
            compared = {name: c for name, c in taken.items() if self._watches[name].is_weight}
            compared |= self._probed()
            for metrics in layers.values():
                metrics["output_flips"] = metrics["target_flips"] = None
            for name, calls in compared.items():
                watch, current = self._watches[name], signs(calls)
                if name in layers:
                    metrics = layers[name]
                    metrics["output_flips"], metrics["target_flips"] = flips(
                        watch.previous, current
                    )
                watch.previous = current
        return layers

    def _probed(self) -> dict[str, Any]:
        """Calls of the activation quantizers on the probe."""
        watches = {name: w for name, w in self._watches.items() if not w.is_weight}
        # A delayed quantizer counts its calls, the probe's too.
        if self._probe is None or self._model is None or _any_delayed(self._model):
            return {}
        outputs: list[Tensor] = []
        with evaluating(self._model):
            for watch in watches.values():
                watch.outputs = outputs
            try:
                loss = self._probe()
                if outputs:
                    torch.autograd.grad(loss, outputs, allow_unused=True)
            finally:
                for watch in watches.values():
                    watch.outputs = None
        taken = {name: watch.take() for name, watch in watches.items()}
        return {name: calls for name, calls in taken.items() if calls}


def check_sample(every: int, units: int) -> None:
    """Raise unless a sample's options are positive integers."""
    if not all(isinstance(value, Integral) and value >= 1 for value in (every, units)):
        raise ValueError(f"every and units must be positive integers, not {every!r} and {units!r}")


def _watchable(model: nn.Module) -> tuple[dict[str, Any], dict[str, str]]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module with Brevitas layers, not {model!r}")
    proxies, skipped = {}, {}
    for name, module in model.named_modules():
        if not isinstance(module, QuantProxyFromInjector) or not module.is_quant_enabled:
            continue
        if any(isinstance(hook, Watch) for hook in module._forward_hooks.values()):
            raise ValueError(f"{name} is watched by another monitor already: close that one first")
        if not isinstance(module, ActQuantProxyFromInjector | WeightQuantProxyFromInjector):
            skipped[name] = f"{type(module).__name__} is not of integer activations or weights"
            continue
        reason = reason_not_to_watch(tensor_quant_of(module))
        if reason is None:
            proxies[name] = module
        else:
            skipped[name] = reason
    if not proxies:
        why = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise ValueError(
            f"{type(model).__name__} has no quantizers to watch ({why or 'none is enabled'})"
        )
    return proxies, skipped


def _any_delayed(model: nn.Module) -> bool:
    proxies = (ActQuantProxyFromInjector, WeightQuantProxyFromInjector)
    quants = (tensor_quant_of(each) for each in model.modules() if isinstance(each, proxies))
    return any(remaining_delay(quant) > 0 for quant in quants)
