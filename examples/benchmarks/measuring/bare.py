"""Our autograd functions by themselves, without the layer that Brevitas puts around them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from brevitas_ftprop import ops

from .quantizers import QUANTIZERS

__all__ = ["BareOp"]

Op = Callable[[Tensor, Tensor, str, str], Tensor]


class BareOp(nn.Module):
    """The function of one of ``QUANTIZERS``, with the scale that its layer has."""

    def __init__(self, quantizer: str, rule: str, saved: str) -> None:
        super().__init__()
        self.op, self.rule, self.saved = OPS[quantizer], rule, saved
        layer = QUANTIZERS[quantizer].ours(rule, saved)
        scale = torch.as_tensor(layer.act_quant.scale()).detach()
        if list(layer.parameters()):
            self.scale = nn.Parameter(scale)
        else:
            self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x, self.scale, self.rule, self.saved)


def _integers(lowest: float, highest: float) -> Op:
    def op(x: Tensor, scale: Tensor, rule: str, saved: str) -> Tensor:
        zero_point, lo, hi = (x.new_tensor(value) for value in (0.0, lowest, highest))
        return ops.int_quantize(x, scale, zero_point, lo, hi, rule, "grad", "single", saved=saved)

    return op


OPS: dict[str, Op] = {
    "sign": lambda x, scale, rule, saved: ops.binary_sign(x, scale, rule, "grad", saved),
    "uint2_const": _integers(0, 3),
    "uint2_learned": _integers(0, 3),
    "int4_learned": _integers(-8, 7),
    "staircase3": lambda x, scale, rule, saved: ops.paper_staircase(
        x, 3, 1.0, rule, "grad", "single", saved
    ),
}
