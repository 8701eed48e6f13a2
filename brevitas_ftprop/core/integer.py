"""Integers of 2 to 32 bits, scaled."""

from typing import Any

import brevitas
import torch
from brevitas.core.bit_width import BitWidthConst
from brevitas.core.function_wrapper import CeilSte, FloorSte, RoundSte, RoundToZeroSte, TensorClamp
from brevitas.core.quant import IntQuant, RescalingIntQuant
from brevitas.core.quant.delay import _NoDelay
from brevitas.core.scaling import (
    ConstScaling,
    IntScaling,
    ParameterFromRuntimeStatsScaling,
    ParameterScaling,
    PowerOfTwoIntScaling,
)
from brevitas.core.zero_point import ZeroZeroPoint
from torch import Tensor
from torch._jit_internal import is_scripting
from torch.nn import Module

from ..memo import remembered
from ..ops import int_quantize
from .hooks import has_no_hooks
from .learned_scale import learned_scale
from .own_parts import check_clamp, check_rounding
from .rule_options import TakesOptions
from .scale import QuantOutput

ROUNDINGS: dict[type, str] = {
    RoundSte: "round",
    CeilSte: "ceil",
    FloorSte: "floor",
    RoundToZeroSte: "trunc",
}


def rounding_of(int_quant: Any) -> str | None:
    """Name of an integer quantizer's rounding, None for one of a user's own.

    >>> rounding_of(TargetPropIntQuant(True, True, torch.nn.Identity(), RoundSte(), rule="ste"))
    'round'
    """
    return ROUNDINGS.get(type(int_quant.float_to_int_impl))


class TargetPropIntQuant(TakesOptions, IntQuant):
    """Integer quantizer of 2 to 32 bits with a target rule's gradient.

    It takes the place of ``IntQuant`` inside ``RescalingIntQuant``, so that scale, zero-point
    and bit width stay Brevitas' own; rounding stays the injected ``float_to_int_impl``. ``to_int``
    stays stock too: a zero-point is rounded by it, and is no unit that has a target.

    Args:
        narrow_range, signed, input_view_impl, float_to_int_impl, tensor_clamp_impl,
            quant_delay_steps: as for ``brevitas.core.quant.IntQuant``.
        rule: spec of a registered rule; ``saturated_ste`` equals stock with ``TensorClamp``,
            ``ste`` equals stock with ``TensorClampSte``.
        weighting: ``"grad"`` or ``"mean"``.
        staircase: ``"single"`` or ``"sum"``.
        saved: ``"exact"`` or ``"compact"``, what is kept for backward.

    Raises:
        ValueError: for unknown options.
        TypeError: for a rounding that learns, or a clamp of a user's own.

    >>> from brevitas.core.function_wrapper import Identity, RoundSte
    >>> quant = TargetPropIntQuant(True, True, Identity(), RoundSte(), rule="hinge")
    >>> x, scale, bits = torch.tensor([0.04, -5.0]), torch.tensor(0.1), torch.tensor(4.0)
    >>> quant(scale, torch.tensor(0.0), bits, x)
    tensor([ 0.0000, -0.7000])

    References:
        :func:`brevitas_ftprop.ops.int_quantize`.
    """

    def __init__(
        self,
        narrow_range: bool,
        signed: bool,
        input_view_impl: Module,
        float_to_int_impl: Module,
        rule: str,
        weighting: str = "grad",
        staircase: str = "single",
        saved: str = "exact",
        tensor_clamp_impl: Module | None = None,
        quant_delay_steps: int = 0,
    ):
        check_rounding(float_to_int_impl)
        check_clamp(tensor_clamp_impl)
        super().__init__(
            narrow_range,
            signed,
            input_view_impl,
            float_to_int_impl,
            TensorClamp() if tensor_clamp_impl is None else tensor_clamp_impl,
            quant_delay_steps,
        )
        self.set_options(rule, weighting, staircase, saved)

    @brevitas.jit.script_method
    def forward(
        self, scale: Tensor, zero_point: Tensor, bit_width: Tensor, x: Tensor, relu: bool = False
    ) -> Tensor:
        viewed = self.input_view_impl(x)
        rounding = self._rounding()
        rounded: Tensor | None = None
        if rounding == "own":
            rounded = self.float_to_int_impl((viewed / scale + zero_point).detach())
        if is_scripting():
            lo, hi = self.min_int(bit_width), self.max_int(bit_width)
        else:
            lo, hi = self._bounds(bit_width)
        y = int_quantize(
            viewed,
            scale,
            zero_point,
            lo,
            hi,
            self.rule,
            self.weighting,
            self.staircase,
            rounding,
            rounded,
            relu,
            self.saved,
            "auto",
        )
        return self.delay_wrapper(x, y)

    @torch.jit.ignore  # pyright: ignore[reportArgumentType]
    def _rounding(self) -> str:
        # Asked anew each time: Brevitas exchanges roundings of live models.
        name = rounding_of(self)
        # A scripted one is no module by now, and cannot have been exchanged.
        if name is None and isinstance(self.float_to_int_impl, Module):
            check_rounding(self.float_to_int_impl)
        return name or "own"

    @torch.jit.ignore  # pyright: ignore[reportArgumentType]
    def _bounds(self, bit_width: Tensor) -> tuple[Tensor, Tensor]:
        def compute() -> tuple[Tensor, Tensor]:
            return self.min_int(bit_width), self.max_int(bit_width)

        lo, hi = remembered(self, ("bounds", self.narrow_range, self.signed), (bit_width,), compute)
        return lo, hi


class TargetPropRescalingIntQuant(RescalingIntQuant):
    """``RescalingIntQuant`` that computes what is constant once instead of at each step.

    That is, with a constant bit width, the integer that the scale is divided by, and, where the
    scale is constant too, the scale. ``forward(x, relu=True)`` quantizes max(x, 0) in one pass,
    where :meth:`takes_relu`.

    Args:
        int_quant, scaling_impl, int_scaling_impl, zero_point_impl, bit_width_impl: as for
            ``brevitas.core.quant.RescalingIntQuant``.

    Returns:
        Quantized value, scale, zero-point, bit width.

    >>> from brevitas.core.function_wrapper import Identity, RoundSte
    >>> quant = TargetPropRescalingIntQuant(
    ...     TargetPropIntQuant(False, True, Identity(), RoundSte(), rule="hinge"),
    ...     ConstScaling(1.0), IntScaling(False, True), ZeroZeroPoint(), BitWidthConst(2),
    ... )
    >>> quant(torch.tensor([0.6, -3.0]))[:2]
    (tensor([ 0.5000, -1.0000]), tensor(0.5000))
    >>> quant(torch.tensor(0.0))[1] is quant(torch.tensor(0.0))[1]
    True
    """

    @brevitas.jit.script_method
    def forward(self, x: Tensor, relu: bool = False) -> QuantOutput:
        if is_scripting():
            bit_width = self.msb_clamp_bit_width_impl()
            int_threshold = self.int_scaling_impl(bit_width)
            scale = self.scaling_impl(x, int_threshold)
            zero_point = self.zero_point_impl(x, scale, bit_width)
        else:
            scale, zero_point, bit_width = self._metadata(x, relu)
        y = x if self.observer_only else self.int_quant(scale, zero_point, bit_width, x, relu)
        return y, scale, zero_point, bit_width

    def takes_relu(self) -> bool:
        """Whether a ReLU in front can be left to the quantization step: nothing else may see what
        the ReLU makes of its input, neither statistics nor hooks.
        """
        quant: Any = self.int_quant
        scaling: Any = self.scaling_impl
        if isinstance(scaling, ParameterFromRuntimeStatsScaling):
            collects = scaling.training and scaling.counter < scaling.collect_stats_steps
        else:
            collects = not isinstance(scaling, ConstScaling | ParameterScaling)
        return (
            not collects
            and not self.observer_only
            and has_no_hooks(self)
            and type(self.zero_point_impl) is ZeroZeroPoint
            and isinstance(quant.delay_wrapper.delay_impl, _NoDelay)
            and rounding_of(quant) is not None
        )

    @torch.jit.ignore  # pyright: ignore[reportArgumentType]
    def _metadata(self, x: Tensor, relu: bool) -> tuple[Tensor, Tensor, Tensor]:
        bits: Any = self.msb_clamp_bit_width_impl
        scaling: Any = self.scaling_impl
        zero: Any = self.zero_point_impl

        def compute_threshold() -> tuple[Tensor, Tensor]:
            bit_width = bits()
            return bit_width, self.int_scaling_impl(bit_width)

        def compute_scale() -> tuple[Tensor, Tensor]:
            scale = scaling(x, int_threshold)
            return scale, zero(x, scale, bit_width)

        # Who takes a ReLU over has looked for hooks.
        unhooked = relu or has_no_hooks(self)
        has_constant_bits = (
            unhooked
            and type(bits) is BitWidthConst
            and type(self.int_scaling_impl) in (IntScaling, PowerOfTwoIntScaling)
        )
        if not has_constant_bits:
            bit_width, int_threshold = compute_threshold()
            return *compute_scale(), bit_width
        scaling_of_int: Any = self.int_scaling_impl
        name = (
            "threshold",
            getattr(scaling_of_int, "signed", None),
            getattr(scaling_of_int, "narrow_range", None),
        )
        width: Any = bits.bit_width.value
        bit_width, int_threshold = remembered(self, name, (width,), compute_threshold)
        if type(zero) is not ZeroZeroPoint:
            return *compute_scale(), bit_width
        zero_value: Any = zero.zero_point.value
        if type(scaling) is ConstScaling:
            value: Any = scaling.value.value
            sources = (int_threshold, value, zero_value)
            scale, zero_point = remembered(self, "scale", sources, compute_scale)
            return scale, zero_point, bit_width
        scale = learned_scale(scaling, int_threshold)
        if scale is None:
            return *compute_scale(), bit_width
        (zero_point,) = remembered(
            self, "zero", (zero_value,), lambda: (zero(x, scale, bit_width),)
        )
        return scale, zero_point, bit_width


def is_integer_quantizer(quant: Any) -> bool:
    """Whether a tensor-quant module is Brevitas' integer quantizer or ours, and not a variant.

    >>> from brevitas.core.quant import BinaryQuant
    >>> is_integer_quantizer(BinaryQuant(ConstScaling(1.0)))
    False
    """
    return type(quant) in (RescalingIntQuant, TargetPropRescalingIntQuant) and type(
        quant.int_quant
    ) in (IntQuant, TargetPropIntQuant)
