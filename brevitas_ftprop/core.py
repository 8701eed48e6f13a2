"""Brevitas tensor-quant modules whose gradients follow a target rule.

Each stands where a stock module stands, takes the same injected arguments plus ``rule``,
``weighting``, ``staircase`` and ``saved``, keeps the same children, and returns the same tuple;
forward values equal the stock module's.
"""

from typing import Any

import brevitas
import torch
from brevitas.core.bit_width import BitWidthConst
from brevitas.core.function_wrapper import (
    CeilSte,
    FloorSte,
    InplaceTensorClampSte,
    RoundSte,
    RoundToZeroSte,
    TensorClamp,
)
from brevitas.core.quant import IntQuant, RescalingIntQuant
from brevitas.core.quant.delay import DelayWrapper
from brevitas.core.scaling import (
    ConstScaling,
    IntScaling,
    ParameterFromRuntimeStatsScaling,
    ParameterFromStatsFromParameterScaling,
    ParameterScaling,
    PowerOfTwoIntScaling,
    RuntimeStatsScaling,
    StatsFromParameterScaling,
)
from brevitas.core.utils import StatelessBuffer
from brevitas.core.zero_point import ZeroZeroPoint
from torch import Tensor
from torch._jit_internal import is_scripting
from torch.nn import Module

from .constants import kept, without_hooks
from .ops import binary_sign, check_options, int_quantize, paper_staircase, ternary_step

__all__ = [
    "TargetPropBinaryQuant",
    "TargetPropIntQuant",
    "TargetPropRescalingIntQuant",
    "TargetPropStaircaseQuant",
    "TargetPropTernaryQuant",
    "is_integer_quantizer",
    "rounding_of",
]

QuantOutput = tuple[Tensor, Tensor, Tensor, Tensor]
# Scales that are divided by a threshold, which is 1 unless it is given.
SCALINGS = (
    ParameterFromRuntimeStatsScaling,
    ParameterFromStatsFromParameterScaling,
    ParameterScaling,
    RuntimeStatsScaling,
    StatsFromParameterScaling,
)
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


class TargetPropBinaryQuant(brevitas.jit.ScriptModule):
    """Binary quantizer ``y = s·sign(x)`` with a target rule's gradient.

    It takes the place of ``BinaryQuant`` (rule ``ste``) and ``ClampedBinaryQuant`` (rule
    ``saturated_ste``); a clamp that clips latent weights in place is kept, a differentiable one
    is not, since it would saturate a second time.

    Args:
        scaling_impl: returns the scale, broadcastable to the input.
        rule: spec of a registered rule.
        weighting: ``"grad"`` or ``"mean"``.
        staircase: unused by one step; every target-prop module takes the same options.
        saved: ``"exact"`` or ``"compact"``, what is kept for backward.
        signed: has to be True.
        tensor_clamp_impl: the stock module's clamp.
        quant_delay_steps: forward passes before quantization sets in.

    Returns:
        Quantized value, scale, zero-point (0), bit width (1).

    Raises:
        ValueError: for unknown options or an unsigned quantizer.

    >>> from brevitas.core.scaling import ConstScaling
    >>> quant = TargetPropBinaryQuant(ConstScaling(0.5), rule="soft_hinge")
    >>> quant(torch.tensor([-0.3, 0.0, 2.0]))[0]
    tensor([-0.5000,  0.5000,  0.5000])

    References:
        :func:`brevitas_ftprop.ops.binary_sign`.
    """

    def __init__(
        self,
        scaling_impl: Module,
        rule: str,
        weighting: str = "grad",
        staircase: str = "single",
        saved: str = "exact",
        signed: bool = True,
        tensor_clamp_impl: Module | None = None,
        quant_delay_steps: int = 0,
    ):
        super().__init__()
        if not signed:
            raise ValueError("a binary quantizer has levels ±scale: signed has to be True")
        self.rule = brevitas.jit.Attribute(check_options(rule, weighting, staircase, saved), str)
        self.weighting = brevitas.jit.Attribute(weighting, str)
        self.staircase = brevitas.jit.Attribute(staircase, str)
        self.saved = brevitas.jit.Attribute(saved, str)
        self.scaling_impl = scaling_impl
        self.bit_width = BitWidthConst(1)
        self.zero_point = StatelessBuffer(torch.tensor(0.0))
        self.delay_wrapper = DelayWrapper(quant_delay_steps)
        self.tensor_clamp_impl = TensorClamp() if tensor_clamp_impl is None else tensor_clamp_impl
        self.clips_latent: bool = isinstance(tensor_clamp_impl, InplaceTensorClampSte)

    @brevitas.jit.script_method
    def forward(self, x: Tensor) -> QuantOutput:
        scale = self.scaling_impl(x) if is_scripting() else self._scale(x)
        latent = x
        if self.clips_latent:
            latent = self.tensor_clamp_impl(x, -scale, scale)
        y = binary_sign(latent, scale, self.rule, self.weighting, self.saved, "auto")
        y = self.delay_wrapper(x, y)
        return y, scale, self.zero_point(), self.bit_width()

    @torch.jit.ignore  # pyright: ignore[reportArgumentType]
    def _scale(self, x: Tensor) -> Tensor:
        return _scale_alone(self, x)


class TargetPropTernaryQuant(brevitas.jit.ScriptModule):
    """Ternary quantizer ``y = s·sign(x)·[|x| > θ·s]`` with a target rule's gradient.

    It takes the place of ``TernaryQuant``, whose own gradient (0 in the dead zone, 1 outside)
    no target rule reproduces.

    Args:
        scaling_impl: returns the scale, broadcastable to the input.
        threshold: θ > 0, in units of the scale.
        rule: spec of a registered rule.
        weighting: ``"grad"`` or ``"mean"``.
        staircase: ``"single"`` or ``"sum"``.
        saved: ``"exact"`` or ``"compact"``, what is kept for backward.
        quant_delay_steps: forward passes before quantization sets in.

    Returns:
        Quantized value, scale, zero-point (0), bit width (2).

    Raises:
        ValueError: for unknown options or a threshold that is not positive.

    >>> from brevitas.core.scaling import ConstScaling
    >>> quant = TargetPropTernaryQuant(ConstScaling(1.0), 0.5, rule="hinge")
    >>> quant(torch.tensor([-0.6, 0.5, 2.0]))[0]
    tensor([-1.,  0.,  1.])

    References:
        :func:`brevitas_ftprop.ops.ternary_step`.
    """

    __constants__ = ("threshold",)

    def __init__(
        self,
        scaling_impl: Module,
        threshold: float,
        rule: str,
        weighting: str = "grad",
        staircase: str = "single",
        saved: str = "exact",
        quant_delay_steps: int | None = None,
    ):
        super().__init__()
        if not threshold > 0:
            raise ValueError(f"a ternary quantizer's threshold must be positive, not {threshold}")
        self.rule = brevitas.jit.Attribute(check_options(rule, weighting, staircase, saved), str)
        self.weighting = brevitas.jit.Attribute(weighting, str)
        self.staircase = brevitas.jit.Attribute(staircase, str)
        self.saved = brevitas.jit.Attribute(saved, str)
        self.scaling_impl = scaling_impl
        self.threshold = threshold
        self.bit_width = BitWidthConst(2)
        self.zero_point = StatelessBuffer(torch.tensor(0.0))
        self.delay_wrapper = DelayWrapper(quant_delay_steps)

    @brevitas.jit.script_method
    def forward(self, x: Tensor) -> QuantOutput:
        scale = self.scaling_impl(x) if is_scripting() else self._scale(x)
        y = ternary_step(
            x,
            scale,
            self.threshold,
            self.rule,
            self.weighting,
            self.staircase,
            self.saved,
            "auto",
        )
        y = self.delay_wrapper(x, y)
        return y, scale, self.zero_point(), self.bit_width()

    @torch.jit.ignore  # pyright: ignore[reportArgumentType]
    def _scale(self, x: Tensor) -> Tensor:
        return _scale_alone(self, x)


class TargetPropIntQuant(IntQuant):
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
        super().__init__(
            narrow_range,
            signed,
            input_view_impl,
            float_to_int_impl,
            TensorClamp() if tensor_clamp_impl is None else tensor_clamp_impl,
            quant_delay_steps,
        )
        self.rule = brevitas.jit.Attribute(check_options(rule, weighting, staircase, saved), str)
        self.weighting = brevitas.jit.Attribute(weighting, str)
        self.staircase = brevitas.jit.Attribute(staircase, str)
        self.saved = brevitas.jit.Attribute(saved, str)

    @brevitas.jit.script_method
    def forward(self, scale: Tensor, zero_point: Tensor, bit_width: Tensor, x: Tensor) -> Tensor:
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
            False,
            self.saved,
            "auto",
        )
        return self.delay_wrapper(x, y)

    @torch.jit.ignore  # pyright: ignore[reportArgumentType]
    def _rounding(self) -> str:
        # Asked anew each time: Brevitas exchanges roundings of live models.
        return rounding_of(self) or "own"

    @torch.jit.ignore  # pyright: ignore[reportArgumentType]
    def _bounds(self, bit_width: Tensor) -> tuple[Tensor, Tensor]:
        def compute() -> tuple[Tensor, Tensor]:
            return self.min_int(bit_width), self.max_int(bit_width)

        lo, hi = kept(self, "bounds", (bit_width,), compute)
        return lo, hi


class TargetPropRescalingIntQuant(RescalingIntQuant):
    """``RescalingIntQuant`` that computes what is constant once instead of at each step.

    That is, with a constant bit width, the integer that the scale is divided by, and, where the
    scale is constant too, the scale.

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
    def forward(self, x: Tensor) -> QuantOutput:
        if is_scripting():
            bit_width = self.msb_clamp_bit_width_impl()
            int_threshold = self.int_scaling_impl(bit_width)
            scale = self.scaling_impl(x, int_threshold)
            zero_point = self.zero_point_impl(x, scale, bit_width)
        else:
            scale, zero_point, bit_width = self._metadata(x)
        y = x if self.observer_only else self.int_quant(scale, zero_point, bit_width, x)
        return y, scale, zero_point, bit_width

    @torch.jit.ignore  # pyright: ignore[reportArgumentType]
    def _metadata(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        bits: Any = self.msb_clamp_bit_width_impl
        scaling: Any = self.scaling_impl
        zero: Any = self.zero_point_impl

        def compute_threshold() -> tuple[Tensor, Tensor]:
            bit_width = bits()
            return bit_width, self.int_scaling_impl(bit_width)

        def compute_scale() -> tuple[Tensor, Tensor]:
            scale = scaling(x, int_threshold)
            return scale, zero(x, scale, bit_width)

        has_constant_bits = _is(bits, BitWidthConst) and _is(
            self.int_scaling_impl, IntScaling, PowerOfTwoIntScaling
        )
        if has_constant_bits:
            width = bits.bit_width.value
            bit_width, int_threshold = kept(self, "threshold", (width,), compute_threshold)
        else:
            bit_width, int_threshold = compute_threshold()
        if has_constant_bits and _is(scaling, ConstScaling) and _is(zero, ZeroZeroPoint):
            sources = (int_threshold, scaling.value.value, zero.zero_point.value)
            scale, zero_point = kept(self, "scale", sources, compute_scale)
        else:
            scale, zero_point = compute_scale()
        return scale, zero_point, bit_width


def is_integer_quantizer(quant: Any) -> bool:
    """Whether a tensor-quant module is Brevitas' integer quantizer or ours, and not a variant.

    >>> is_integer_quantizer(TargetPropStaircaseQuant(3, rule="hinge"))
    False
    """
    return type(quant) in (RescalingIntQuant, TargetPropRescalingIntQuant) and type(
        quant.int_quant
    ) in (IntQuant, TargetPropIntQuant)


def _scale_alone(quant: Any, x: Tensor) -> Tensor:
    """The scale of a quantizer without bit width, whose dtype and device follow its input."""
    scaling, like = quant.scaling_impl, (x.dtype, x.device)
    if _is(scaling, ConstScaling):
        sources = (scaling.value.value,)
        (scale,) = kept(quant, ("scale", *like), sources, lambda: (scaling(x),))
        return scale
    if _is(scaling, *SCALINGS):
        # What Brevitas would make anew on the CPU and wait for on its way to the device.
        (one,) = kept(quant, ("one", *like), (), lambda: (torch.ones(1).type_as(x),))
        return scaling(x, one)
    return scaling(x)


def _is(module: Module, *kinds: type) -> bool:
    return type(module) in kinds and without_hooks(module)


class TargetPropStaircaseQuant(brevitas.jit.ScriptModule):
    """The paper's staircase activation ``M·clamp(ceil(x·(n-1)), 0, n)/n`` as a Brevitas quantizer.

    Its integers are 0…n with scale M/n, unsigned, of ceil(log2(n+1)) bits; its thresholds lie
    at k/(n-1) whatever M is, which no uniform quantizer has.

    Args:
        steps: n, an integer from 2 to 255.
        max_val: M > 0, the highest level; 1 in the paper, ``n/2**bits`` for a power-of-two scale.
        rule: spec of a registered rule.
        weighting: ``"grad"`` or ``"mean"``.
        staircase: ``"single"`` or ``"sum"``.
        saved: ``"exact"`` or ``"compact"``, what is kept for backward.
        quant_delay_steps: forward passes before quantization sets in.

    Returns:
        Quantized value, scale (M/n), zero-point (0), bit width.

    Raises:
        ValueError: for unknown options, a number of steps out of range, or a highest level that
            is not positive.

    >>> quant = TargetPropStaircaseQuant(3, rule="soft_hinge")
    >>> y, scale, zero_point, bit_width = quant(torch.tensor([-1.0, 0.0, 0.3, 0.5, 0.7, 2.0]))
    >>> (y / scale).round().tolist(), bit_width.item()
    ([0.0, 0.0, 1.0, 1.0, 2.0, 3.0], 2.0)

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573, section 4;
        :func:`brevitas_ftprop.ops.paper_staircase`.
    """

    __constants__ = ("steps", "max_val")

    def __init__(
        self,
        steps: int,
        rule: str,
        weighting: str = "grad",
        staircase: str = "single",
        saved: str = "exact",
        max_val: float = 1.0,
        quant_delay_steps: int = 0,
    ):
        super().__init__()
        if steps != int(steps) or not 2 <= steps <= 255:
            raise ValueError(f"a staircase has 2 to 255 steps, not {steps}")
        if not 0 < max_val < float("inf"):
            raise ValueError(f"a staircase's highest level must be positive, not {max_val}")
        self.rule = brevitas.jit.Attribute(check_options(rule, weighting, staircase, saved), str)
        self.weighting = brevitas.jit.Attribute(weighting, str)
        self.staircase = brevitas.jit.Attribute(staircase, str)
        self.saved = brevitas.jit.Attribute(saved, str)
        self.steps = int(steps)
        self.max_val = float(max_val)
        self.scale = StatelessBuffer(torch.tensor(max_val / steps))
        self.zero_point = StatelessBuffer(torch.tensor(0.0))
        self.bit_width = BitWidthConst(int(steps).bit_length())
        self.delay_wrapper = DelayWrapper(quant_delay_steps)

    @brevitas.jit.script_method
    def forward(self, x: Tensor) -> QuantOutput:
        y = paper_staircase(
            x,
            self.steps,
            self.max_val,
            self.rule,
            self.weighting,
            self.staircase,
            self.saved,
            "auto",
        )
        y = self.delay_wrapper(x, y)
        return y, self.scale(), self.zero_point(), self.bit_width()
