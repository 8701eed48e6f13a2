"""Sign, scaled."""

import brevitas
import torch
from brevitas.core.bit_width import BitWidthConst
from brevitas.core.function_wrapper import InplaceTensorClampSte, TensorClamp
from brevitas.core.quant.delay import DelayWrapper
from brevitas.core.utils import StatelessBuffer
from torch import Tensor
from torch._jit_internal import is_scripting
from torch.nn import Module

from ..ops import binary_sign
from .own_parts import check_clamp
from .rule_options import TakesOptions
from .scale import QuantOutput, scale_alone


class TargetPropBinaryQuant(TakesOptions, brevitas.jit.ScriptModule):
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
        TypeError: for a clamp of a user's own.

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
        check_clamp(tensor_clamp_impl)
        self.set_options(rule, weighting, staircase, saved)
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
        return scale_alone(self, x)
