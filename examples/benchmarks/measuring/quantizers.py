"""The quantizers that are measured, stock and with target rules, as users write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import torch
from brevitas.inject.enum import RestrictValueType, ScalingImplType, ScalingPerOutputType
from brevitas.nn import QuantIdentity, QuantReLU
from brevitas.quant import (
    Int8ActPerTensorFloat,
    SignedBinaryActPerTensorConst,
    Uint8ActPerTensorFloat,
)
from brevitas.quant.base import UintQuant
from brevitas.quant.solver import ActQuantSolver
from torch import nn

from brevitas_ftprop import swap_quantizers
from brevitas_ftprop.quant import TargetPropStaircase3ActPerTensorConst


class Uint8ActPerTensorConst(UintQuant, ActQuantSolver):
    """Unsigned activation with a fixed scale, which stock Brevitas has no name for."""

    scaling_impl_type = ScalingImplType.CONST
    restrict_scaling_type = RestrictValueType.FP
    scaling_per_output_type = ScalingPerOutputType.TENSOR
    bit_width = 8


@dataclass(frozen=True)
class Quantizer:
    """One layer with an activation quantizer.

    Attributes:
        layer: the Brevitas layer.
        act_quant: its quantizer.
        options: of the layer.
        has_stock: False for the paper's staircases, which stock Brevitas does not have.
    """

    layer: Any
    act_quant: Any
    options: dict[str, Any] = field(default_factory=dict)
    has_stock: bool = True

    def stock(self, device: str = "cpu") -> nn.Module:
        """The layer with Brevitas' own quantizer."""
        return self._layer(device)

    def ours(self, rule: str, saved: str, device: str = "cpu") -> nn.Module:
        """The layer with a target rule."""
        if not self.has_stock:
            return self._layer(device, rule=rule, saved=saved)
        layer = self._layer(device)
        swap_quantizers(layer, rule, saved=saved)
        return layer

    def rivals(
        self, rules: Sequence[str], saved: Sequence[str]
    ) -> dict[str, Callable[[], nn.Module]]:
        """Name of each form → how it is built: stock, and ours."""
        built = {"stock": self.stock} if self.has_stock else {}
        for rule, form in product(rules, saved):
            built[f"ours {rule} {form}"] = partial(self.ours, rule, form)
        return built

    def _layer(self, device: str, **options: Any) -> nn.Module:
        layer = self.layer(act_quant=self.act_quant, **self.options, **options).to(device)
        # Scales that start from statistics are learned from the second batch on; there, since
        # the backend that is asked for may compute nowhere else.
        for _ in range(3):
            layer(torch.linspace(-4, 4, 1000, device=device))
        return layer


QUANTIZERS = {
    "sign": Quantizer(QuantIdentity, SignedBinaryActPerTensorConst),
    "uint2_const": Quantizer(QuantReLU, Uint8ActPerTensorConst, {"bit_width": 2, "max_val": 3.0}),
    "uint2_learned": Quantizer(
        QuantReLU, Uint8ActPerTensorFloat, {"bit_width": 2, "collect_stats_steps": 1}
    ),
    "int4_learned": Quantizer(
        QuantIdentity, Int8ActPerTensorFloat, {"bit_width": 4, "collect_stats_steps": 1}
    ),
    "staircase3": Quantizer(QuantIdentity, TargetPropStaircase3ActPerTensorConst, has_stock=False),
}
