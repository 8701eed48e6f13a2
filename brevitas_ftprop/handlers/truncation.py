"""Truncation behind average pools: what stock handlers leave to a second rounding, or to none."""

from dataclasses import dataclass
from typing import Any

import torch
from brevitas.core.scaling import TruncMsbScaling
from brevitas.export.onnx.handler import ONNXBaseHandler
from brevitas.export.onnx.qonnx.function import BrevitasTruncOp
from brevitas.proxy.runtime_quant import TruncQuantProxyFromInjector
from torch import Tensor

from ..core import rounding_of
from ..kernels import ROUNDING_FUNCTIONS
from ..levels import ROUNDING_NAMES


@dataclass(frozen=True)
class _Constants:
    """The parameters of one call of a truncation, as constants of the graph."""

    scale: Tensor
    zero_point: Tensor
    input_bits: Tensor
    step: float
    signed: bool

    @property
    def output_scale(self) -> Tensor:
        return _constant(self.scale, self.step)

    @property
    def output_zero_point(self) -> Tensor:
        return _constant(self.zero_point, 1 / self.step)


class _TruncHandler(ONNXBaseHandler):
    """Truncation to the most significant bits.

    Raises:
        ValueError: for another scaling of the truncation, or a rounding of a user's own.
    """

    handled_layer = TruncQuantProxyFromInjector

    def prepare_for_export(self, module: Any) -> None:
        if not module.is_quant_enabled:
            return
        self.quant = module.tensor_quant
        if type(self.quant.trunc_scaling_impl) is not TruncMsbScaling:
            raise ValueError(
                f"a truncation scaled by {type(self.quant.trunc_scaling_impl).__name__} cannot be "
                "exported: keep the most significant bits (TruncMsbScaling)"
            )
        rounding = rounding_of(self.quant)
        if rounding is None:
            raise ValueError(
                f"a truncation that rounds by {type(self.quant.float_to_int_impl).__name__} cannot "
                "be exported: use ROUND, FLOOR, CEIL or ROUND_TO_ZERO"
            )
        self.rounding = ROUNDING_FUNCTIONS[rounding]
        self.bits = self.quant.msb_clamp_bit_width_impl().detach()

    def _constants(
        self, scale: Tensor, zero_point: Tensor, input_bits: Tensor, signed: Any
    ) -> _Constants:
        step = 2.0 ** (float(input_bits) - float(self.bits))
        return _Constants(
            _constant(scale), _constant(zero_point), _constant(input_bits), step, bool(signed)
        )


def _constant(parameter: Tensor, factor: float = 1.0) -> Tensor:
    # By way of numbers, so that a tracer sees no operations on what does not change.
    numbers = torch.tensor(parameter.tolist(), dtype=torch.float64).mul(factor).tolist()
    return torch.tensor(numbers, dtype=parameter.dtype)


class QCDQTruncHandler(_TruncHandler):
    """Brevitas' own arithmetic in standard operators: integers are restored, then truncated."""

    def symbolic_execution(
        self, x: Tensor, scale: Tensor, zero_point: Tensor, input_bits: Tensor, signed: Any
    ) -> tuple[Tensor, ...]:
        constants = self._constants(scale, zero_point, input_bits, signed)
        lowest, highest = (
            float(end(self.bits, constants.signed))
            for end in (self.quant.min_int, self.quant.max_int)
        )
        y = torch.round(x / constants.scale + constants.zero_point) / constants.step
        y = self.rounding(y).clamp(lowest, highest)
        y = (y - constants.output_zero_point) * constants.output_scale
        return y, constants.output_scale, constants.output_zero_point, self.bits


class QONNXTruncHandler(_TruncHandler):
    """A ``Trunc`` node, its rounding by QONNX's name, its scale that of this call."""

    def symbolic_execution(
        self, x: Tensor, scale: Tensor, zero_point: Tensor, input_bits: Tensor, signed: Any
    ) -> tuple[Tensor, ...]:
        constants = self._constants(scale, zero_point, input_bits, signed)
        y = self.export_op(
            BrevitasTruncOp,
            x,
            constants.scale,
            constants.zero_point,
            constants.input_bits,
            constants.signed,
            bool(self.quant.narrow_range),
            constants.output_scale,
            self.bits,
            ROUNDING_NAMES[self.rounding],
        )
        return y, constants.output_scale, constants.output_zero_point, self.bits
