"""One call of an activation quantizer: the units that it makes, and the gradient that came back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from brevitas.quant_tensor import IntQuantTensor
from torch import Tensor, nn

from ..levels import tensor_quant_of
from ..targets import weighted_sign
from ..units import Units, activation_before, units_of
from .recording import NotRepeatableError, Value, backward_pass

# Numbers that are computed with at a time.
BLOCK = 1 << 17
# Activation functions of which each element depends on its own input alone, in straight pieces.
PIECEWISE_LINEAR = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardtanh)


class UnitCall:
    """What a quantizer computed in one forward pass, and which gradient its rule follows.

    It holds the recorded values behind it and none before it, so that a graph that autograd lets go
    of is gone as a whole.

    Attributes:
        name: of the quantizer's proxy in the model.
        input, output: its tensors, detached.
        value: its output, as the recording knows it.
        followed: what its rule follows in place of the output's gradient, −w·t of each unit; None
            until the backward pass comes by.
        passed: gradient of its input, which the backward pass brings.
    """

    def __init__(self, name: str, proxy: Any, x: Tensor, output: IntQuantTensor, value: Value):
        self.name, self.value = name, value
        self.input, self.output = x.detach(), output.value.detach()
        self._versions = x._version, self.output._version
        self.followed: Tensor | None = None
        self._followed_in: int | None = None
        self.passed: Tensor | None = None
        self._act, self._quant = activation_before(proxy), tensor_quant_of(proxy)
        # Clones, since an optimizer changes a learned scale in place.
        self._metadata = tuple(
            each.detach().clone() for each in (output.scale, output.zero_point, output.bit_width)
        )

    def follow(self, grad: Tensor) -> None:
        """Note what the rule follows in the backward pass that is under way."""
        self.followed, self._followed_in = grad, backward_pass()

    @property
    def is_reached(self) -> bool:
        """Whether the backward pass that is under way came by; one before may have, for another
        loss.
        """
        return self._followed_in == backward_pass()

    def check_rule(self) -> None:
        """Raise a NotRepeatableError where the quantizer's rule is defined by its slope alone."""
        rule = units_of(self._quant, self.input, *self._metadata).rule
        if not rule.has_loss:
            raise NotRepeatableError(f"the rule {rule} of {self.name} above it has no loss")

    def losses(self, x: Tensor) -> Tensor:
        """Layer loss of each unit for an input of the quantizer, 0 where no gradient came."""
        if self.followed is None:
            return x.new_zeros(x.shape)
        return self._units(x, self._metadata).layer_loss(self.followed)

    def tensors(self) -> tuple[Tensor, ...] | None:
        """What the layer losses are made of beside the input: their weights, scale, zero-point and
        bit width, each of which broadcasts to the input; None where no gradient came.

        Raises:
            NotRepeatableError: if the quantizer's own activation function may mix its inputs.
        """
        self._check_act()
        if self.followed is None:
            return None
        return self._units(self.followed, self._metadata).weight(self.followed), *self._metadata

    def losses_of(self, x: Tensor, weight: Tensor, *metadata: Tensor) -> Tensor:
        """Layer losses of some units, each as often as wanted.

        Args:
            x: an input for each of them.
            weight, *metadata: what belongs to them of :meth:`tensors`.
        """
        return self._units(x, metadata).loss_of(weight)

    def curvatures(self, x: Tensor) -> Tensor:
        """Second derivative of each unit's layer loss by the input, for an input.

        Raises:
            NotRepeatableError: if the quantizer's own activation function may be curved.
        """
        if self.followed is None:
            return x.new_zeros(x.shape)
        self._check_act()
        curvature = torch.empty_like(x)
        # By rows, so that what comes between stays in a processor's cache.
        rows = max(1, BLOCK * len(x) // max(x.numel(), 1))
        blocks = (each.split(rows) for each in (x, self._weighted, curvature))
        for z, grad, out in zip(*blocks, strict=True):
            units = replace(self._units(z, self._metadata), weighting="grad")
            out.copy_(units.layer_curvature(grad))
        if self._act is None:
            return curvature
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(self._act(x.clone()).sum(), x)
        return curvature * slope.square()

    def saw(self) -> Tensor | None:
        """The input as it was; None if it has been overwritten since."""
        return self.input if self.input._version == self._versions[0] else None

    @property
    def is_overwritten(self) -> bool:
        """Whether the output is no longer what the quantizer gave."""
        return self.output._version != self._versions[1]

    def gave(self, h: Tensor) -> bool:
        """Whether a tensor is the output as it was."""
        return h is self.output and not self.is_overwritten

    def quantized(self, x: Tensor) -> Tensor:
        """The quantizer's output for an input, its scale held fixed."""
        units = self._units(x, self._metadata)
        return units.step.output(units.x, units.operands)

    @property
    def _weighted(self) -> Tensor:
        assert self.followed is not None
        weighting = self._units(self.followed, self._metadata).weighting
        return weighted_sign(self.followed, weighting, len(self.followed))

    def _units(self, x: Tensor, metadata: tuple) -> Units:
        z = x if self._act is None else self._act(x.clone())
        return units_of(self._quant, z, *metadata)

    def _check_act(self) -> None:
        if self._act is not None and not isinstance(self._act, PIECEWISE_LINEAR):
            kind = type(self._act).__name__
            raise NotRepeatableError(f"{kind} in a quantizer is not known to be in straight pieces")
