"""The paper's staircase, whose thresholds no uniform quantizer has."""

import brevitas
import torch
from brevitas.core.bit_width import BitWidthConst
from brevitas.core.quant.delay import DelayWrapper
from brevitas.core.utils import StatelessBuffer
from torch import Tensor

from ..ops import paper_staircase
from .rule_options import TakesOptions
from .scale import QuantOutput


class TargetPropStaircaseQuant(TakesOptions, brevitas.jit.ScriptModule):
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
        self.set_options(rule, weighting, staircase, saved)
        self.steps = int(steps)
        self.max_val = float(max_val)
        # torch.compile(dynamic=True) makes a symbol of a number, which its text stays out of.
        self.steps_text = brevitas.jit.Attribute(str(self.steps), str)
        self.max_val_text = brevitas.jit.Attribute(str(self.max_val), str)
        self.scale = StatelessBuffer(torch.tensor(max_val / steps))
        self.zero_point = StatelessBuffer(torch.tensor(0.0))
        self.bit_width = BitWidthConst(int(steps).bit_length())
        self.delay_wrapper = DelayWrapper(quant_delay_steps)

    @brevitas.jit.script_method
    def forward(self, x: Tensor) -> QuantOutput:
        y = paper_staircase(
            x,
            int(self.steps_text),
            float(self.max_val_text),
            self.rule,
            self.weighting,
            self.staircase,
            self.saved,
            "auto",
        )
        y = self.delay_wrapper(x, y)
        return y, self.scale(), self.zero_point(), self.bit_width()
