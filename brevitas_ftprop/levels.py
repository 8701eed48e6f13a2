"""What a frozen quantizer computes: pre-activation → integer level → value.

The one description that export, inference and verification share, so that they cannot disagree;
it is built from target-prop and from stock Brevitas proxies alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from brevitas.proxy import (
    ActQuantProxyFromInjector,
    DecoupledWeightQuantProxyFromInjector,
    WeightQuantProxyFromInjector,
)
from brevitas.proxy.runtime_quant import (
    DynamicActQuantProxyFromInjector,
    _TensorQuantDisabledIdentity,
)
from torch import Tensor

from .core import ROUNDINGS, is_integer_quantizer, rule_holder, step_of
from .kernels import ROUNDING_FUNCTIONS, Integers, PaperStaircase, Sign, Ternary


def _toward_zero(x: Tensor) -> Tensor:
    # TorchScript cannot write torch.trunc to ONNX.
    return x.sign() * x.abs().floor()


# By the names of ``core.ROUNDINGS``: as QONNX names them, and in operators that every exporter has.
ROUNDING_NAMES = {"round": "ROUND", "ceil": "CEIL", "floor": "FLOOR", "trunc": "DOWN"}
ROUNDINGS_BY_NAME = {ROUNDING_NAMES[name]: each for name, each in ROUNDING_FUNCTIONS.items()}
TRACEABLE_ROUNDINGS = ROUNDING_FUNCTIONS | {"trunc": _toward_zero}


@dataclass(frozen=True)
class LevelFunction:
    """A quantizer with its scale, zero-point and bit width frozen.

    ``levels(x)`` is monotone in ``x`` and gives integers out of ``level_values``;
    ``dequantize(q) = (q - zero_point)·scale`` gives the quantizer's output.

    Attributes:
        levels: the integer level of each element of a real input, in its dtype and in plain torch
            operations (traceable, exportable).
        level_values: the integers it can give, ascending ((-1, 1) for sign).
        scale: float tensor, broadcastable to the input.
        zero_point: integer-valued float tensor, broadcastable to the input.
        bit_width: 1 to 32.
        signed: whether the integers are of a signed type.
        uniform: whether ``levels`` is round-half-even of ``x/scale + zero_point``, clamped:
            what a QONNX ``Quant`` node and ``QuantizeLinear`` compute.

    >>> from brevitas.nn import QuantReLU
    >>> from brevitas.quant import Uint8ActPerTensorFloatMaxInit
    >>> act = QuantReLU(act_quant=Uint8ActPerTensorFloatMaxInit, bit_width=2, max_val=3.0)
    >>> function = level_function(act.act_quant)
    >>> function.levels(torch.tensor([0.5, 0.6, 9.0]))
    tensor([0., 1., 3.])
    >>> function.thresholds()
    tensor([[0.5000, 1.5000, 2.5000]])
    """

    levels: Callable[[Tensor], Tensor] = field(repr=False)
    level_values: Sequence[int]
    scale: Tensor
    zero_point: Tensor
    bit_width: int
    signed: bool
    uniform: bool

    def dequantize(self, levels: Tensor) -> Tensor:
        """Value of each level, ``(q - zero_point)·scale``."""
        return (levels - self.zero_point) * self.scale

    @property
    def channels(self) -> int:
        """Number of channels with thresholds of their own; 1 for per-tensor scales."""
        return max(self.scale.numel(), self.zero_point.numel())

    def thresholds(self) -> Tensor:
        """Smallest float32 input that reaches each level but the first.

        Found by bisection on ``levels`` itself, so rounding ties and float errors of the scaling
        are in it; an activation's ``levels(x)`` equals ``level_values`` indexed by the number of
        thresholds ≤ x.

        Returns:
            float32 tensor of shape (channels, len(level_values) - 1); +inf where a level is
            never reached.
        """
        targets = torch.tensor(self.level_values[1:], dtype=torch.float32)
        # Channels lie on axis 1, as in the activations that the scale broadcasts to.
        trailing = max(self.scale.dim(), self.zero_point.dim(), 2) - 2
        targets = targets.reshape(-1, 1, *(1,) * trailing)
        shape = (targets.shape[0], self.channels, *(1,) * trailing)
        reached = smallest_reaching(lambda x: self.levels(x) >= targets, shape)
        return reached.reshape(shape[:2]).T.contiguous()


def smallest_reaching(reaches: Callable[[Tensor], Tensor], shape: Sequence[int]) -> Tensor:
    """Smallest float32 from which on a condition holds, element by element, found by bisection.

    Args:
        reaches: takes a float32 tensor of the shape, and gives for each element whether the
            condition holds there; if it does, it has to for all larger numbers.
        shape: of the result.

    Returns:
        float32 tensor; +inf where the condition never holds.

    >>> smallest_reaching(lambda x: x + 1 >= 3, (2,))
    tensor([2.0000, 2.0000])
    """
    largest = torch.tensor(torch.finfo(torch.float32).max, dtype=torch.float32)
    largest = _to_ordered(largest).item()
    below = torch.full(tuple(shape), -largest - 1, dtype=torch.int64)
    reached = torch.full(tuple(shape), largest + 1, dtype=torch.int64)
    with torch.no_grad():
        while bool((reached - below > 1).any()):
            middle = (below + reached) // 2
            is_reached = reaches(_from_ordered(middle))
            reached = torch.where(is_reached, middle, reached)
            below = torch.where(is_reached, below, middle)
    return _from_ordered(reached)


def _to_ordered(x: Tensor) -> Tensor:
    """Index of a float32 on the number line (±0 both at 0): neighbours differ by one."""
    bits = x.view(torch.int32).to(torch.int64)
    return torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _from_ordered(index: Tensor) -> Tensor:
    bits = torch.where(index < 0, -index | 0x80000000, index)
    bits = torch.where(bits > 0x7FFFFFFF, bits - (1 << 32), bits)
    return bits.to(torch.int32).view(torch.float32)


def tensor_quant_of(proxy: Any) -> Any:
    """The tensor-quant module of an activation or weight proxy, None where it has none.

    A proxy whose ``disable_quant`` is set has one still. After ``proxy.compile_quant()`` it is the
    module that was compiled.

    >>> from brevitas.nn import QuantIdentity
    >>> type(tensor_quant_of(QuantIdentity().act_quant)).__name__
    'RescalingIntQuant'
    """
    fused = getattr(proxy, "fused_activation_quant_proxy", None)
    quant = getattr(proxy if fused is None else fused, "tensor_quant", None)
    if isinstance(quant, _TensorQuantDisabledIdentity):
        return None
    return getattr(quant, "_orig_mod", quant)


def remaining_delay(tensor_quant: Any) -> int:
    """The steps for which a quantizer still passes its input on, of its ``quant_delay_steps``."""
    wrapper = getattr(rule_holder(tensor_quant), "delay_wrapper", None)
    return getattr(getattr(wrapper, "delay_impl", None), "quant_delay_steps", 0)


def level_function(proxy: Any) -> LevelFunction:
    """Freeze what an activation or weight proxy computes in inference.

    Args:
        proxy: a target-prop or stock proxy of an integer, binary, ternary or staircase
            quantizer, as found at ``layer.act_quant`` or ``layer.weight_quant``.

    Raises:
        TypeError: for quantizers of other types (float, groupwise, decoupled, dynamic).
        ValueError: if quantization is disabled or still delayed.

    >>> from brevitas.nn import QuantIdentity
    >>> from brevitas.quant import SignedBinaryActPerTensorConst
    >>> act = QuantIdentity(act_quant=SignedBinaryActPerTensorConst)
    >>> level_function(act.act_quant).level_values
    (-1, 1)
    """
    if not isinstance(proxy, ActQuantProxyFromInjector | WeightQuantProxyFromInjector):
        raise TypeError(
            f"{type(proxy).__name__} is not an integer activation or weight proxy of Brevitas"
        )
    if isinstance(proxy, DecoupledWeightQuantProxyFromInjector):
        raise TypeError(
            "decoupled weight quantizers (weight normalization, A2Q) round in other steps than "
            "those of their result, and have no integer levels of their own"
        )
    if isinstance(proxy, DynamicActQuantProxyFromInjector):
        raise TypeError("dynamic quantizers take their scale from each input, and have no levels")
    quant = tensor_quant_of(proxy)
    if quant is None or not proxy.is_quant_enabled:
        raise ValueError(f"{type(proxy).__name__} does not quantize (it is disabled)")
    holder, remaining = rule_holder(quant), remaining_delay(quant)
    if remaining > 0:
        raise ValueError(
            f"quantization is delayed for another {remaining} steps: train past quant_delay_steps "
            "first"
        )
    with torch.no_grad():
        scale, zero_point, bits = _metadata(proxy, quant)
    bit_width = round(float(bits))
    match step_of(quant):
        case Sign():
            return LevelFunction(_sign, (-1, 1), scale, zero_point, 1, True, False)
        case Ternary(threshold):
            levels = _ternary(threshold * scale)
            return LevelFunction(levels, (-1, 0, 1), scale, zero_point, 2, True, False)
        case PaperStaircase(steps):
            values, levels = range(steps + 1), _staircase(steps)
            return LevelFunction(levels, values, scale, zero_point, bit_width, False, False)
        case Integers(name):
            if bit_width < 2:
                raise ValueError(
                    "an integer quantizer of 1 bit is not exported: use 2 bits or more, or a "
                    "binary quantizer"
                )
            rounding = TRACEABLE_ROUNDINGS[name]
            lo, hi = int(holder.min_int(bits)), int(holder.max_int(bits))
            levels = uniform_levels(rounding, scale, zero_point, lo, hi)
            values, signed = range(lo, hi + 1), bool(holder.signed)
            is_uniform = rounding is torch.round
            return LevelFunction(levels, values, scale, zero_point, bit_width, signed, is_uniform)
    if is_integer_quantizer(quant):
        raise TypeError(
            f"no integer levels are known for the rounding {type(holder.float_to_int_impl)}: "
            f"only for {', '.join(known.__name__ for known in ROUNDINGS)}"
        )
    raise TypeError(
        f"no integer levels are known for {type(quant).__name__} with {type(holder).__name__}: "
        "only binary, ternary, staircase and integer quantizers of Brevitas have them"
    )


def _metadata(proxy: Any, quant: Any) -> tuple[Tensor, Tensor, Tensor]:
    if isinstance(proxy, WeightQuantProxyFromInjector):
        # A copy, since some quantizers clip the latent weight in place.
        weight = proxy.tracked_module_list[0].weight.detach().clone()
        _, scale, zero_point, bit_width = quant(weight)
    else:
        # What its methods of these names look up, each with a pass of its own.
        found = proxy._cached_act
        found = proxy.internal_forward(force_eval=True) if found is None else found
        scale, zero_point, bit_width = found.scale, found.zero_point, found.bit_width
    return scale.detach(), zero_point.detach(), bit_width.detach()


def _sign(x: Tensor) -> Tensor:
    return (x >= 0).to(x.dtype) * 2 - 1


def _ternary(threshold: Tensor) -> Callable[[Tensor], Tensor]:
    def levels(x: Tensor) -> Tensor:
        return (x > threshold).to(x.dtype) - (x < -threshold).to(x.dtype)

    return levels


def _staircase(steps: int) -> Callable[[Tensor], Tensor]:
    def levels(x: Tensor) -> Tensor:
        return torch.ceil(x * (steps - 1)).clamp(0, steps)

    return levels


def uniform_levels(
    rounding: Callable[[Tensor], Tensor], scale: Tensor, zero_point: Tensor, lo: int, hi: int
) -> Callable[[Tensor], Tensor]:
    """The levels ``clamp(rounding(x/scale + zero_point), lo, hi)`` of an integer quantizer.

    >>> scale, zero_point = torch.tensor(0.5), torch.tensor(0.0)
    >>> uniform_levels(torch.round, scale, zero_point, 0, 3)(torch.tensor([0.6, 9]))
    tensor([1., 3.])
    """

    def levels(x: Tensor) -> Tensor:
        return rounding(x / scale + zero_point).clamp(lo, hi)

    return levels
