"""One call of an activation quantizer: the units that it makes, and the gradient that came back."""

from __future__ import annotations

from typing import Any

from brevitas.quant_tensor import IntQuantTensor
from torch import Tensor

from ..levels import tensor_quant_of
from ..units import activation_before, units_of
from .recording import Value

__all__ = ["UnitCall"]


class UnitCall:
    """What a quantizer computed in one forward pass, and which gradient its rule follows.

    It holds the recorded values behind it and none before it, so that a graph that autograd lets go
    of is gone as a whole.

    Attributes:
        name: of the quantizer's proxy in the model.
        value: its output, as the recording knows it.
        followed: what its rule follows in place of the output's gradient, −w·t of each unit; None
            until the backward pass comes by.
        passed: gradient of its input, which the backward pass brings.
    """

    def __init__(self, name: str, proxy: Any, output: IntQuantTensor, value: Value):
        self.name, self.value = name, value
        self.followed: Tensor | None = None
        self.passed: Tensor | None = None
        self._act, self._quant = activation_before(proxy), tensor_quant_of(proxy)
        # Clones, since an optimizer changes a learned scale in place.
        self._metadata = tuple(
            each.detach().clone() for each in (output.scale, output.zero_point, output.bit_width)
        )

    def losses(self, x: Tensor) -> Tensor:
        """Layer loss of each unit for an input of the quantizer, 0 where no gradient came."""
        if self.followed is None:
            return x.new_zeros(x.shape)
        z = x if self._act is None else self._act(x.clone())
        return units_of(self._quant, z, *self._metadata).layer_loss(self.followed)

    def quantized(self, x: Tensor) -> Tensor:
        """The quantizer's output for an input, its scale held fixed."""
        z = x if self._act is None else self._act(x.clone())
        units = units_of(self._quant, z, *self._metadata)
        return units.step.output(units.x, units.operands)
