"""Target-prop quantizers in standard ONNX: integers, then DequantizeLinear."""

from typing import Any

import torch
from brevitas.export.onnx.handler import ONNXBaseHandler
from brevitas.export.onnx.standard.function import DequantizeLinearOp
from brevitas.export.onnx.standard.qcdq.handler import StdQCDQCastONNXActQuantProxyHandler
from torch import Tensor

from ..levels import LevelFunction, level_function
from ..proxy import TargetPropActQuantProxy, TargetPropWeightQuantProxy


def _dtype(function: LevelFunction) -> torch.dtype:
    if function.bit_width > 8:
        raise ValueError(
            f"QCDQ holds integers of up to 8 bits, this quantizer has {function.bit_width}: "
            "export to QONNX, or use 8 bits or fewer"
        )
    return torch.int8 if function.signed else torch.uint8


class _Dequantizer:
    """DequantizeLinear with a quantizer's frozen scale and zero-point."""

    def __init__(self, function: LevelFunction) -> None:
        self.dtype = _dtype(function)
        shape = torch.broadcast_shapes(function.scale.shape, function.zero_point.shape)
        axes = [axis for axis, size in enumerate(shape) if size != 1]
        self.axis = axes[0] if axes else None
        self.scale = self._flat(function.scale, shape)
        self.zero_point = self._flat(function.zero_point, shape).to(self.dtype)

    def _flat(self, parameter: Tensor, shape: torch.Size) -> Tensor:
        flat = parameter.expand(shape).flatten().contiguous()
        return flat if self.axis is not None else flat[0].clone()

    def __call__(self, handler: ONNXBaseHandler, integers: Tensor) -> Tensor:
        return handler.export_op(
            DequantizeLinearOp, integers, self.scale, self.zero_point, self.axis
        )


class QCDQActHandler(StdQCDQCastONNXActQuantProxyHandler):
    """QuantizeLinear, Clip, DequantizeLinear where these are exact; else standard operators.

    QuantizeLinear adds the zero-point after rounding, Brevitas before; and it has one rounding.
    So zero-points, signs, ternary thresholds and staircases become comparison, Ceil, Round, Clip
    and Cast.
    """

    handled_layer = TargetPropActQuantProxy
    function: LevelFunction

    def prepare_for_export(self, module: Any) -> None:
        if not module.is_quant_enabled:
            return
        self.function = level_function(module)
        self.dequantize = _Dequantizer(self.function)
        self.bit_width = module.bit_width()
        self.uses_quantize_linear = self.function.uniform and not bool(
            self.function.zero_point.any()
        )
        if self.uses_quantize_linear:
            super().prepare_for_export(module)

    def symbolic_execution(self, x: Tensor) -> tuple[Tensor, ...]:
        if self.uses_quantize_linear:
            return super().symbolic_execution(x)
        integers = self.function.levels(x).to(self.dequantize.dtype)
        y = self.dequantize(self, integers)
        return y, self.function.scale, self.function.zero_point, self.bit_width


class QCDQWeightHandler(ONNXBaseHandler):
    """The weight's integers as int8 or uint8, then DequantizeLinear.

    Raises:
        ValueError: for more than 8 bits, or a quantizer that several layers share.
    """

    handled_layer = TargetPropWeightQuantProxy

    def prepare_for_export(self, module: Any) -> None:
        if not module.is_quant_enabled:
            return
        if len(module.tracked_parameter_list) > 1:
            raise ValueError(
                "a weight quantizer that several layers share cannot be exported to QCDQ; give "
                "each layer a quantizer of its own"
            )
        function = level_function(module)
        self.dequantize = _Dequantizer(function)
        with torch.no_grad():
            value, *self.metadata = module.tensor_quant(module.tracked_parameter_list[0])
            integers = torch.round(value / function.scale + function.zero_point)
        self.integers = integers.to(self.dequantize.dtype)

    def symbolic_execution(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.dequantize(self, self.integers), *self.metadata
