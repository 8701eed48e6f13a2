"""The layers that the models are built from: what ``act``, ``form``, ``weight_bits`` mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, TypedDict

import brevitas.nn as qnn
from brevitas.inject import ExtendedInjector
from brevitas.inject.enum import RestrictValueType, ScalingImplType
from torch import Tensor, nn
from torch.nn import functional

from .. import quant
from ..ops import check_options
from ..proxy import TargetPropProxy

FORMS = ("paper", "hardware")
WEIGHT_BITS = (1, 2, 4, 8)
WEIGHT_SCALES = ("tensor", "channel")
PAD_VALUES = (0, -1)
STEP_QUANTIZERS = {
    "sign": {
        "paper": quant.TargetPropSignedBinaryActPerTensorConst,
        "hardware": quant.TargetPropSignedBinaryActPerTensorConst,
    },
    "staircase3": {
        "paper": quant.TargetPropStaircase3ActPerTensorConst,
        "hardware": quant.TargetPropStaircase3ActPerTensorFixedPoint,
    },
    "staircase5": {
        "paper": quant.TargetPropStaircase5ActPerTensorConst,
        "hardware": quant.TargetPropStaircase5ActPerTensorFixedPoint,
    },
}
FLOAT_ACTIVATIONS = {"relu": nn.ReLU, "saturated_relu": lambda: nn.Hardtanh(0.0, 1.0)}
INTEGER_BITS = {f"int{bits}": bits for bits in range(2, 9)}

POWER_OF_TWO = {"weight_restrict_scaling_type": RestrictValueType.POWER_OF_TWO}
# (form, scale) → quantizer and its options, for one bit and for more.
BINARY_WEIGHTS: dict[tuple[str, str], tuple[Any, dict[str, Any]]] = {
    ("paper", "tensor"): (quant.TargetPropSignedBinaryWeightPerTensorConst, {}),
    ("paper", "channel"): (quant.TargetPropSignedBinaryWeightPerChannelFloat, {}),
    ("hardware", "tensor"): (quant.TargetPropSignedBinaryWeightPerTensorUnit, {}),
    ("hardware", "channel"): (quant.TargetPropSignedBinaryWeightPerChannelFloat, POWER_OF_TWO),
}
INTEGER_WEIGHTS = {
    ("paper", "tensor"): quant.TargetPropInt8WeightPerTensorFloat,
    ("paper", "channel"): quant.TargetPropInt8WeightPerChannelFloat,
    ("hardware", "tensor"): quant.TargetPropInt8WeightPerTensorFixedPoint,
    ("hardware", "channel"): quant.TargetPropInt8WeightPerChannelFixedPoint,
}


class LayerOptions(TypedDict, total=False):
    """Keyword options that every model takes.

    - ``act``: ``"sign"`` (the default), ``"staircase3"``, ``"staircase5"`` (the paper's 2- and
      3-bit activations), ``"int2"`` … ``"int8"`` (unsigned, uniform), ``"relu"`` and
      ``"saturated_relu"`` (the paper's float baselines, the latter clamps to [0, 1]; paper form
      only), or an activation quantizer class of your own.
    - ``form``: ``"paper"`` (the default) or ``"hardware"``.
    - ``weight_bits``: 1, 2, 4 or 8; None is float in the paper form and 2 in the hardware form.
      The first and the last layer stay float in the paper form and have 8 bits in the hardware
      form.
    - ``weight_scale``: ``"tensor"`` (the default) or ``"channel"``; the last layer's is always
      per tensor.
    - ``rule``, ``weighting``, ``staircase``: of the activation quantizers; None leaves the
      quantizer's own (``"soft_hinge"``, ``"grad"``, ``"single"``).
    - ``weight_rule``: rule of the weight quantizers, ``"ste"`` by default.
    - ``input_range``: hardware form: inputs are quantized to 8 bits in
      [-input_range, input_range); a power of two, 4 by default.
    - ``pad_value``: what convolutions pad signs with, 0 (the default) or -1, which is a value that
      signs have, so that they keep one bit in hardware; for ``act="sign"``. The image is padded
      with 0.

    In the hardware form every scale is a power of two: a staircase's levels are k/4 or k/8, at the
    paper's thresholds. The scales of the activations are fixed there, since a batch norm with a
    gain of its own stands before each; those of the weights follow the weights.
    """

    act: str | type
    form: Literal["paper", "hardware"]
    weight_bits: Literal[1, 2, 4, 8] | None
    weight_scale: Literal["tensor", "channel"]
    rule: str | None
    weight_rule: str
    weighting: str | None
    staircase: str | None
    input_range: float
    pad_value: Literal[0, -1]


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Builds the layers of one model from its options; see :class:`LayerOptions`.

    Raises:
        ValueError: for an unknown option value, named with the valid ones.
        TypeError: for an ``act`` that is neither a name nor a quantizer class.

    >>> layers = Layers(act="staircase3", form="hardware", weight_bits=1)
    >>> layers.conv(3, 8, 3).weight_quant.scale()
    tensor([1.])
    """

    act: str | type = "sign"
    form: str = "paper"
    weight_bits: int | None = None
    weight_scale: str = "tensor"
    rule: str | None = None
    weight_rule: str = "ste"
    weighting: str | None = None
    staircase: str | None = None
    input_range: float = 4.0
    pad_value: int = 0

    def __post_init__(self) -> None:
        _check_choice("form", self.form, FORMS)
        _check_choice("weight_bits", self.weight_bits, (None, *WEIGHT_BITS))
        _check_choice("weight_scale", self.weight_scale, WEIGHT_SCALES)
        _check_choice("pad_value", self.pad_value, PAD_VALUES)
        if self.pad_value and self.act != "sign":
            raise ValueError(f'pad_value=-1 is a value of signs: use act="sign", not {self.act!r}')
        for rule in (self.rule or "soft_hinge", self.weight_rule):
            check_options(rule, self.weighting or "grad", self.staircase or "single")
        if not _is_power_of_two(self.input_range):
            raise ValueError(f"input_range must be a power of two, not {self.input_range!r}")
        self._check_act()

    def _check_act(self) -> None:
        if isinstance(self.act, str):
            names = [*STEP_QUANTIZERS, *INTEGER_BITS, *FLOAT_ACTIVATIONS]
            if self.act not in names:
                raise ValueError(
                    f"unknown act {self.act!r}; valid are {', '.join(names)} and quantizer classes"
                )
            if self.is_hardware and self.act in FLOAT_ACTIVATIONS:
                raise ValueError(
                    f'act="{self.act}" is a float activation, which the hardware form does not '
                    'have: use a quantized one, or form="paper"'
                )
        elif not (isinstance(self.act, type) and issubclass(self.act, ExtendedInjector)):
            raise TypeError(
                f"act must be a name or an activation quantizer class of Brevitas, not {self.act!r}"
            )
        elif self._rule_options() and not issubclass(self.act.proxy_class, TargetPropProxy):  # pyright: ignore[reportAttributeAccessIssue]
            raise ValueError(
                f"{self.act.__name__} has no target rule, so it takes no rule, weighting or "
                "staircase: use a TargetProp quantizer, or convert the model by swap_quantizers"
            )

    @property
    def is_hardware(self) -> bool:
        return self.form == "hardware"

    @property
    def has_float_weights(self) -> bool:
        return self.weight_bits is None and not self.is_hardware

    def conv(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = False,
        is_first: bool = False,
    ) -> qnn.QuantConv2d:
        """Convolution; without bias in the hardware form, where a batch norm follows."""
        pads_signs = bool(self.pad_value and padding and not is_first)
        convolution = SignPaddedConv2d if pads_signs else qnn.QuantConv2d
        return convolution(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            bias=bias and not self.is_hardware,
            **self._weights(is_outer=is_first, scale=self.weight_scale),
        )

    def linear(
        self, in_features: int, out_features: int, *, bias: bool = False, is_last: bool = False
    ) -> qnn.QuantLinear:
        """Fully connected layer; without bias in the hardware form."""
        return qnn.QuantLinear(
            in_features,
            out_features,
            bias=bias and not self.is_hardware,
            **self._weights(is_outer=is_last, scale="tensor" if is_last else self.weight_scale),
        )

    def norm(self, channels: int, *, eps: float = 1e-5, pooled: int = 1) -> nn.BatchNorm2d:
        """Batch norm of a convolution's output.

        Before a quantized activation that is max-pooled over windows of ``pooled`` values (before
        it or after it, which is the same function) its bias starts at minus the median of the
        largest of that many normal values: from 0, nearly every sign would start as +1.
        """
        norm = nn.BatchNorm2d(channels, eps=eps)
        if pooled > 1 and self.act not in FLOAT_ACTIVATIONS:
            nn.init.constant_(norm.bias, -NormalDist().inv_cdf(0.5 ** (1 / pooled)))
        return norm

    def activation(self) -> nn.Module:
        """A new activation."""
        if not isinstance(self.act, str):
            return qnn.QuantIdentity(act_quant=self.act, **self._rule_options())
        if self.act in FLOAT_ACTIVATIONS:
            return FLOAT_ACTIVATIONS[self.act]()
        if self.act in STEP_QUANTIZERS:
            act_quant = STEP_QUANTIZERS[self.act][self.form]
            return qnn.QuantIdentity(act_quant=act_quant, **self._rule_options())
        bits = INTEGER_BITS[self.act]
        if self.is_hardware:
            return self._fixed_point(
                quant.TargetPropUint8ActPerTensorFixedPoint, bits, _act_range(bits)
            )
        # Starts where the hardware form's fixed scale stands; learned from there on.
        return qnn.QuantIdentity(
            act_quant=quant.TargetPropUint8ActPerTensorFloatMaxInit,
            bit_width=bits,
            max_val=_act_range(bits) * (1 - 2.0**-bits),
            **self._rule_options(),
        )

    def input_quantizer(self) -> qnn.QuantIdentity:
        """The 8-bit quantizer of a hardware form's input."""
        return self._fixed_point(quant.TargetPropInt8ActPerTensorFixedPoint, 8, self.input_range)

    def residual_quantizer(self, bits: int) -> qnn.QuantIdentity:
        """The signed quantizer that both summands of a hardware form's residual sum pass."""
        if bits not in range(2, 9):
            raise ValueError(f"residual_bits must be 2 to 8, not {bits!r}")
        return self._fixed_point(
            quant.TargetPropInt8ActPerTensorFixedPoint, bits, 2.0 if bits <= 4 else 4.0
        )

    def _fixed_point(self, act_quant: Any, bits: int, limit: float) -> qnn.QuantIdentity:
        return qnn.QuantIdentity(
            act_quant=act_quant,
            bit_width=bits,
            scaling_impl_type=ScalingImplType.CONST,
            scaling_init=limit,
            **self._rule_options(),
        )

    def _rule_options(self) -> dict[str, Any]:
        options = {"rule": self.rule, "weighting": self.weighting, "staircase": self.staircase}
        return {name: value for name, value in options.items() if value is not None}

    def _weights(self, *, is_outer: bool, scale: str) -> dict[str, Any]:
        if self.has_float_weights or (is_outer and not self.is_hardware):
            return {"weight_quant": None}
        bits = 8 if is_outer else self.weight_bits or 2
        options: dict[str, Any] = {"weight_rule": self.weight_rule}
        if self.staircase is not None:
            options["weight_staircase"] = self.staircase
        if bits == 1:
            weight_quant, extra = BINARY_WEIGHTS[self.form, scale]
            return {"weight_quant": weight_quant, **extra, **options}
        weight_quant = INTEGER_WEIGHTS[self.form, scale]
        return {"weight_quant": weight_quant, "weight_bit_width": bits, **options}


class SignPaddedConv2d(qnn.QuantConv2d):
    """A convolution that pads with -1 instead of 0.

    Its arguments and parameters are those of ``QuantConv2d``.
    """

    def __init__(self, *args: Any, padding: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sign_padding = padding

    def forward(self, input: Tensor) -> Any:
        return super().forward(functional.pad(input, 4 * [self.sign_padding], value=-1.0))


def check_sizes(**sizes: int | Sequence[int]) -> None:
    """Raise unless each is a positive integer, or a sequence of them.

    Raises:
        ValueError: names the first that is not.
    """
    for name, size in sizes.items():
        for value in size if isinstance(size, Sequence) else (size,):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be positive integers, not {size!r}")


def _act_range(bits: int) -> float:
    """End of the range of an unsigned activation that follows a batch norm."""
    return 2.0 if bits <= 3 else 4.0


def _is_power_of_two(value: object) -> bool:
    return isinstance(value, int | float) and value > 0 and math.frexp(value)[0] == 0.5


def _check_choice(name: str, value: object, valid: tuple) -> None:
    if value not in valid or isinstance(value, bool):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, valid))}, not {value!r}")
