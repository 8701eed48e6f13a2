"""Our autograd functions by themselves, without the layer that Brevitas puts around them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from brevitas_ftprop import ops

from .quantizers import QUANTIZERS

Op = Callable[["BareOp", Tensor], Tensor]


class BareOp(nn.Module):
    """The function of one of ``QUANTIZERS``, with the scale that its layer has."""

    scale: Tensor
    zero_point: Tensor
    lo: Tensor
    hi: Tensor

    def __init__(self, quantizer: str, rule: str, saved: str, device: str = "cpu") -> None:
        super().__init__()
        self.op, self.rule, self.saved = OPS[quantizer], rule, saved
        layer = QUANTIZERS[quantizer].ours(rule, saved, device)
        scale = torch.as_tensor(layer.act_quant.scale()).detach()
        if list(layer.parameters()):
            self.scale = nn.Parameter(scale)
        else:
            self.register_buffer("scale", scale)
        # Made once: a number on its way to a GPU is waited for.
        for name, value in zip(("zero_point", "lo", "hi"), NUMBERS[quantizer], strict=False):
            self.register_buffer(name, torch.tensor(value, device=device))

    def forward(self, x: Tensor) -> Tensor:
        return self.op(self, x)


def _sign(of: BareOp, x: Tensor) -> Tensor:
    return ops.binary_sign(x, of.scale, of.rule, "grad", of.saved)


def _integers(of: BareOp, x: Tensor) -> Tensor:
    operands = of.scale, of.zero_point, of.lo, of.hi
    return ops.int_quantize(x, *operands, of.rule, "grad", "single", saved=of.saved)


def _staircase(of: BareOp, x: Tensor) -> Tensor:
    return ops.paper_staircase(x, 3, 1.0, of.rule, "grad", "single", of.saved)


OPS: dict[str, Op] = {
    "sign": _sign,
    "uint2_const": _integers,
    "uint2_learned": _integers,
    "int4_learned": _integers,
    "staircase3": _staircase,
}
# Zero-point, smallest and largest integer.
NUMBERS = {
    "sign": (),
    "uint2_const": (0.0, 0.0, 3.0),
    "uint2_learned": (0.0, 0.0, 3.0),
    "int4_learned": (0.0, -8.0, 7.0),
    "staircase3": (),
}
