"""Three levels, scaled."""

import brevitas
import torch
from brevitas.core.bit_width import BitWidthConst
from brevitas.core.quant.delay import DelayWrapper
from brevitas.core.utils import StatelessBuffer
from torch import Tensor
from torch._jit_internal import is_scripting
from torch.nn import Module

from ..ops import ternary_step
from .rule_options import TakesOptions
from .scale import QuantOutput, scale_alone


class TargetPropTernaryQuant(TakesOptions, brevitas.jit.ScriptModule):
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
        self.set_options(rule, weighting, staircase, saved)
        self.scaling_impl = scaling_impl
        self.threshold = threshold
        # torch.compile(dynamic=True) makes a symbol of a number, which its text stays out of.
        self.threshold_text = brevitas.jit.Attribute(str(threshold), str)
        self.bit_width = BitWidthConst(2)
        self.zero_point = StatelessBuffer(torch.tensor(0.0))
        self.delay_wrapper = DelayWrapper(quant_delay_steps)

    @brevitas.jit.script_method
    def forward(self, x: Tensor) -> QuantOutput:
        scale = self.scaling_impl(x) if is_scripting() else self._scale(x)
        y = ternary_step(
            x,
            scale,
            float(self.threshold_text),
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
        return scale_alone(self, x)
