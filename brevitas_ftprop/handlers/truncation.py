"""Truncation behind average pools: what stock handlers leave to a second rounding, or to none."""

from typing import Any

import torch
from brevitas.core.scaling import TruncMsbScaling
from brevitas.export.onnx.handler import ONNXBaseHandler
from brevitas.export.onnx.qonnx.function import BrevitasTruncOp
from brevitas.proxy.runtime_quant import TruncQuantProxyFromInjector
from torch import Tensor

from ..core import rounding_of
from ..levels import ROUNDING_NAMES, TRACEABLE_ROUNDINGS


class _TruncHandler(ONNXBaseHandler):
    """Truncation to the most significant bits, ``2**(input bits - bits)`` integers to one.

    Raises:
        ValueError: for another scaling of the truncation, a rounding of a user's own, or several
            calls under the dynamo exporter.
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
        self.rounding = rounding
        self.bits = self.quant.msb_clamp_bit_width_impl().detach()
        self.whole_bits, self.narrow = round(float(self.bits)), bool(self.quant.narrow_range)
        self.last_signed = bool(module.retrieve_attribute("signed"))
        self.is_called = False

    def symbolic_execution(
        self, x: Tensor, scale: Tensor, zero_point: Tensor, input_bits: Tensor, signed: Any
    ) -> tuple[Tensor, ...]:
        if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
            signed = bool(signed)
        elif self.is_called:
            # There the inputs' scales and signs are those of the last call.
            raise ValueError("the dynamo exporter cannot write a truncation that is called twice")
        else:
            signed = self.last_signed
        self.is_called = True
        step = 2.0 ** (input_bits - self.bits)
        y = self.truncated(x, (scale, zero_point, input_bits), step, signed)
        return y, scale * step, zero_point / step, self.bits

    def truncated(
        self, x: Tensor, entering: tuple[Tensor, ...], step: Tensor, signed: bool
    ) -> Tensor:
        raise NotImplementedError


class QCDQTruncHandler(_TruncHandler):
    """Brevitas' own arithmetic in standard operators: integers are restored, then truncated."""

    def truncated(
        self, x: Tensor, entering: tuple[Tensor, ...], step: Tensor, signed: bool
    ) -> Tensor:
        scale, zero_point, _ = entering
        lowest, highest = _range(self.whole_bits, signed, self.narrow)
        y = torch.round(x / scale + zero_point) / step
        y = TRACEABLE_ROUNDINGS[self.rounding](y).clamp(lowest, highest)
        return (y - zero_point / step) * (scale * step)


class QONNXTruncHandler(_TruncHandler):
    """A ``Trunc`` node, its rounding by QONNX's name, its scale that of this call."""

    def truncated(
        self, x: Tensor, entering: tuple[Tensor, ...], step: Tensor, signed: bool
    ) -> Tensor:
        return self.export_op(
            BrevitasTruncOp,
            x,
            *entering,
            signed,
            self.narrow,
            entering[0] * step,
            self.bits,
            ROUNDING_NAMES[self.rounding],
        )


def _range(bits: int, signed: bool, narrow: bool) -> tuple[int, int]:
    half = 1 << bits - 1
    return (narrow - half, half - 1) if signed else (0, 2 * half - 1 - narrow)
