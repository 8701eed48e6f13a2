"""Looking at one quantizer's calls: a forward hook that keeps a sample and changes nothing."""

from typing import Any

import torch
from brevitas.proxy import WeightQuantProxyFromInjector
from brevitas.quant_tensor import IntQuantTensor
from torch import Tensor

from ..levels import remaining_delay, tensor_quant_of
from ..units import Units, activation_before, units_of


class WatchedCall:
    """A sample of one call of a quantizer: what went in, and the gradient that came back.

    Attributes:
        size: number of the call's units, of which the sample is a part.
        grad: sample of the gradient of the output, once it has come.
    """

    def __init__(self, proxy: Any, sample: "Sample", x: Tensor, output: IntQuantTensor):
        self.size = x.numel()
        self.grad: Tensor | None = None
        self._act = activation_before(proxy)
        self._quant = tensor_quant_of(proxy)
        self._sample = sample
        self._x = sample(x)
        # Clones, since a learned scale is changed in place before the gradient is looked at.
        self._scale = sample.of_metadata(output.scale, x.shape).clone()
        self._zero_point = sample.of_metadata(output.zero_point, x.shape).clone()
        self._bit_width = output.bit_width.detach().clone()

    def receive(self, grad: Tensor) -> None:
        """Tensor hook of the output."""
        with torch.no_grad():
            self.grad = self._sample(grad)

    def units(self) -> Units:
        """Units of the sample; what lies before them in the layer, such as a ReLU, is applied."""
        x = self._x if self._act is None else self._act(self._x.clone())
        return units_of(self._quant, x, self._scale, self._zero_point, self._bit_width)

    def through_act(self, passed: Tensor) -> Tensor:
        """Gradient that leaves the layer's own activation function where ``passed`` enters it."""
        if self._act is None:
            return passed
        with torch.enable_grad():
            x = self._x.clone().requires_grad_()
            return torch.autograd.grad(self._act(x.clone()), x, passed.to(x.dtype))[0]


class Sample:
    """The same random units of every tensor of a shape: of weights, or of each image's features.

    >>> Sample(torch.Size([2, 3, 4]), units=5, seed=0, is_weight=False)(torch.zeros(2, 3, 4)).shape
    torch.Size([2, 5])
    """

    def __init__(self, shape: torch.Size, *, units: int, seed: int, is_weight: bool):
        self._lead = () if is_weight or len(shape) == 1 else (slice(None),)
        features = shape[len(self._lead) :]
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(features.numel(), generator=generator)[:units].sort().values
        self._at = tuple(torch.unravel_index(chosen, features))

    def __call__(self, tensor: Tensor) -> Tensor:
        if tensor.device != self._at[0].device:
            self._at = tuple(index.to(tensor.device) for index in self._at)
        return tensor.detach()[(*self._lead, *self._at)]

    def of_metadata(self, tensor: Tensor, shape: torch.Size) -> Tensor:
        """Sample of a scale or zero-point that broadcasts to the shape."""
        tensor = tensor.detach()
        return tensor.reshape(()) if tensor.numel() == 1 else self(tensor.expand(shape))


class Watch:
    """Forward hook of a quantizer proxy that keeps samples of its calls while it records.

    Attributes:
        is_weight: whether the quantizer is one of weights.
        recording: whether calls are kept.
        outputs: for a probe a list that takes the calls' outputs; else None. A call must not hold
            its output, whose hook holds the call.
        calls: the calls since the last :meth:`take`.
        previous: signs of the outputs and targets of the last sampled step.
    """

    def __init__(self, proxy: Any, *, units: int, seed: int):
        self.is_weight = isinstance(proxy, WeightQuantProxyFromInjector)
        self.recording = False
        self.outputs: list[Tensor] | None = None
        self.calls: list[WatchedCall] = []
        self.previous: tuple[Tensor, Tensor] | None = None
        self._units, self._seed = units, seed
        self._samples: dict[torch.Size, Sample] = {}

    def __reduce__(self) -> tuple:
        # A copy of the model, for an average of its weights or in a file, is not watched.
        return _ignore_call, ()

    @torch.compiler.disable
    def __call__(self, proxy: Any, args: tuple, output: Any) -> None:
        x = getattr(args[0], "value", args[0])
        if not (self.recording and torch.is_grad_enabled() and isinstance(output, IntQuantTensor)):
            return
        # What is differentiated beside the training is not part of it.
        if not proxy.training and self.outputs is None:
            return
        # Brevitas asks activations for their scale with a tensor of no dimensions.
        if (
            x.dim() == 0
            or not output.value.requires_grad
            or remaining_delay(tensor_quant_of(proxy)) > 0
        ):
            return
        with torch.no_grad():
            call = WatchedCall(proxy, self._sample(x.shape), x, output)
        output.value.register_hook(call.receive)
        self.calls.append(call)
        if self.outputs is not None:
            self.outputs.append(output.value)

    def _sample(self, shape: torch.Size) -> Sample:
        # The batch size is none of the sample's business.
        key = shape if self.is_weight else shape[1:]
        if key not in self._samples:
            self._samples[key] = Sample(
                shape, units=self._units, seed=self._seed, is_weight=self.is_weight
            )
        return self._samples[key]

    def take(self) -> list[WatchedCall]:
        """The calls that received a gradient, in their order; none is kept.

        The others were not part of what was differentiated: forward passes without a backward
        pass, and those that activation checkpointing runs again.
        """
        calls, self.calls = self.calls, []
        return [call for call in calls if call.grad is not None]


class _Ignored:
    """What a watch becomes in a copy of the model."""

    def __call__(self, proxy: Any, args: tuple, output: Any) -> None:
        return None


def _ignore_call() -> _Ignored:
    return _Ignored()
