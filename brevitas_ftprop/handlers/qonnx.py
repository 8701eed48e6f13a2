"""Target-prop quantizers as QONNX nodes."""

from typing import Any

import torch
from brevitas.export.onnx.function import DynamoFn
from brevitas.export.onnx.qonnx.function import DOMAIN_STRING, DOMAIN_VERSION
from brevitas.export.onnx.qonnx.handler import (
    BrevitasActQuantProxyHandler,
    BrevitasBiasQuantProxyHandler,
    BrevitasWeightQuantProxyHandler,
)
from torch import Tensor
from torch.autograd import Function

from ..core import rounding_of
from ..levels import ROUNDING_NAMES, LevelFunction, level_function
from ..proxy import TargetPropActQuantProxy, TargetPropWeightQuantProxy

# By number of dimensions.
LAYOUTS = {2: "NC", 3: "NCW", 4: "NCHW"}


def _count_reached(x: Tensor, thresholds: Tensor, out_bias: float) -> Tensor:
    per_channel = thresholds.reshape(1, thresholds.shape[0], *(1,) * (x.dim() - 2), -1)
    return (x.unsqueeze(-1) >= per_channel).sum(-1).to(x.dtype) + out_bias


class _MultiThresholdTorchScriptFn(Function):
    @staticmethod
    def symbolic(g, x, thresholds, out_dtype, out_bias, layout):
        y = g.op(
            f"{DOMAIN_STRING}::MultiThreshold",
            x,
            thresholds,
            out_dtype_s=out_dtype,
            out_bias_f=out_bias,
            out_scale_f=1.0,
            data_layout_s=layout,
        )
        y.setType(x.type())
        return y

    @staticmethod
    def forward(ctx, x, thresholds, out_dtype, out_bias, layout):
        return _count_reached(x, thresholds, out_bias)


class _MultiThresholdDynamoFn(DynamoFn):
    @staticmethod
    def symbolic(x, thresholds, out_dtype, out_bias, layout):
        return torch.onnx.ops.symbolic(
            f"{DOMAIN_STRING}::MultiThreshold",
            (x, thresholds),
            {
                "out_dtype": out_dtype,
                "out_bias": out_bias,
                "out_scale": 1.0,
                "data_layout": layout,
            },
            dtype=x.dtype,
            shape=x.shape,
            version=DOMAIN_VERSION,
        )


class MultiThresholdOp:
    """QONNX ``MultiThreshold``: ``out_bias`` + the number of thresholds ≤ x, per channel."""

    torchscript = _MultiThresholdTorchScriptFn
    dynamo = _MultiThresholdDynamoFn


class QONNXActHandler(BrevitasActQuantProxyHandler):
    """``Quant`` for round-half-even integers, ``BipolarQuant`` for signs, else ``MultiThreshold``.

    FINN ignores the rounding mode of a Quant node, so every other rounding (the paper's ceil
    staircases, ternary thresholds, CEIL and FLOOR) is written as its exact thresholds.

    Raises:
        ValueError: if a quantizer that needs thresholds has more than 8 bits or its input is
            none of (N, C), (N, C, L) and (N, C, H, W).
    """

    handled_layer = TargetPropActQuantProxy
    function: LevelFunction

    def prepare_for_export(self, module: Any) -> None:
        super().prepare_for_export(module)
        if not module.is_quant_enabled:
            return
        self.function = level_function(module)
        self.needs_thresholds = not self.function.uniform and self.function.bit_width > 1
        if self.needs_thresholds:
            if self.function.bit_width > 8:
                raise ValueError(
                    f"a quantizer of {self.function.bit_width} bits that does not round half to "
                    "even would need a threshold for each level: use 8 bits or fewer, or ROUND"
                )
            self.thresholds = self.function.thresholds()
            self.has_zero_point = bool(self.function.zero_point.any())

    def symbolic_execution(self, x: Tensor) -> tuple[Tensor, ...]:
        if not self.needs_thresholds:
            return super().symbolic_execution(x)
        if x.dim() not in LAYOUTS:
            raise ValueError(
                "MultiThreshold takes (N, C), (N, C, L) or (N, C, H, W) inputs, not "
                f"{x.dim()} dimensions"
            )
        prefix = "INT" if self.function.signed else "UINT"
        integers = self.export_op(
            MultiThresholdOp,
            x,
            self.thresholds,
            f"{prefix}{self.function.bit_width}",
            float(self.function.level_values[0]),
            LAYOUTS[x.dim()],
        )
        scale, zero_point = self.function.scale, self.function.zero_point
        centred = integers - zero_point if self.has_zero_point else integers
        return centred * scale, scale, zero_point, self.symbolic_kwargs["bit_width"]


# Brevitas' names of roundings are QONNX's, but for one that QONNX does not know.
BREVITAS_ROUNDINGS = ROUNDING_NAMES | {"trunc": "ROUND_TO_ZERO"}


class QONNXBiasHandler(BrevitasBiasQuantProxyHandler):
    """``Quant`` on the bias, with the rounding that it has.

    Raises:
        ValueError: for a rounding of a user's own.
    """

    def prepare_for_export(self, module: Any) -> None:
        super().prepare_for_export(module)
        if module.is_quant_enabled:
            quant = module.tensor_quant.int_quant
            rounding = rounding_of(quant)
            if rounding is None:
                raise ValueError(
                    f"a bias that is rounded by {type(quant.float_to_int_impl).__name__} cannot "
                    "be exported: use ROUND, FLOOR, CEIL or ROUND_TO_ZERO"
                )
            # Brevitas tells that of the injector, which an injected module overrides.
            self.symbolic_kwargs["rounding_mode"] = BREVITAS_ROUNDINGS[rounding]


class QONNXWeightHandler(BrevitasWeightQuantProxyHandler):
    """``Quant`` or ``BipolarQuant`` on the weight, which is quantized already.

    The node sees values on its own grid, so that its rounding mode cannot matter.
    """

    handled_layer = TargetPropWeightQuantProxy

    def prepare_for_export(self, module: Any) -> None:
        super().prepare_for_export(module)
        if module.is_quant_enabled:
            shared = len(module.tracked_parameter_list) > 1
            if shared and not level_function(module).uniform and module.bit_width() > 1:
                raise ValueError(
                    "a weight quantizer that several layers share can be exported if it is "
                    "binary or rounds half to even; give each layer a quantizer of its own"
                )
            self.quantized = None
            if not shared:
                with torch.no_grad():
                    self.quantized = module.tensor_quant(module.tracked_parameter_list[0])[0]

    def symbolic_execution(self, x: Tensor) -> tuple[Tensor, ...]:
        return super().symbolic_execution(x if self.quantized is None else self.quantized)
