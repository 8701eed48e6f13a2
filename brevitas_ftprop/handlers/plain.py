"""Target-prop quantizers in plain torch operations: torch-QCDQ and ``quant_inference_mode``."""

from typing import Any

import torch
from brevitas.export.common.handler.base import BaseHandler
from torch import Tensor

from ..levels import level_function
from ..proxy import TargetPropActQuantProxy, TargetPropWeightQuantProxy


class PlainActHandler(BaseHandler):
    """Quantize to integers and back, as the frozen quantizer does, NaN included."""

    handled_layer = TargetPropActQuantProxy

    def prepare_for_export(self, module: Any) -> None:
        if module.is_quant_enabled:
            self.function = level_function(module)
            self.bit_width = module.bit_width()

    def inner_forward(self, x: Tensor) -> Tensor:
        # Not through an integer type: that has no NaN.
        return self.function.dequantize(self.function.levels(x))

    def forward(self, x: Tensor, unused_scale: Tensor | None = None) -> tuple[Tensor, ...]:
        return self._with_metadata(self.inner_forward(x))

    def _with_metadata(self, y: Tensor) -> tuple[Tensor, ...]:
        metadata = self.function.scale, self.function.zero_point, self.bit_width
        if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
            # The tracer returns what was computed, and no constant that nothing was done with.
            metadata = tuple(tensor.clone() for tensor in metadata)
        return y, *metadata


class PlainWeightHandler(PlainActHandler):
    """The same for weights, unless ``quant_inference_mode`` has cached the quantized weight."""

    handled_layer = TargetPropWeightQuantProxy

    def prepare_for_export(self, module: Any) -> None:
        super().prepare_for_export(module)
        if module.is_quant_enabled:
            cached = module._cached_weight
            metadata_only = module.cache_inference_quant_weight_metadata_only
            self.cached_weight = None if cached is None or metadata_only else cached.value

    def forward(self, x: Tensor, unused_scale: Tensor | None = None) -> tuple[Tensor, ...]:
        if self.cached_weight is None:
            return super().forward(x)
        return self._with_metadata(self.cached_weight)
