"""Thresholds that are -1 and 0 in a type that holds both."""

from __future__ import annotations

from typing import Any

__all__ = ["fix_thresholds_of_minus_one_and_zero"]

MARK = "_brevitas_ftprop_original"


def fix_thresholds_of_minus_one_and_zero() -> None:
    """Let FINN's ``Thresholding`` keep thresholds whose smallest is -1 and whose largest is 0.

    It takes the smallest type that holds -1, which is BIPOLAR and holds no 0, and stops. Such
    layers get INT2; all others go through FINN's own function.

    References:
        finn-plus 1.6.1, ``Thresholding.minimize_weight_bit_width`` (it knows of all zeros only).
    """
    from finn.custom_op.fpgadataflow.hls.thresholding_hls import Thresholding_hls
    from finn.custom_op.fpgadataflow.rtl.thresholding_rtl import Thresholding_rtl
    from finn.custom_op.fpgadataflow.thresholding import Thresholding

    for layer in (Thresholding, Thresholding_hls, Thresholding_rtl):
        original = layer.__dict__.get("minimize_weight_bit_width")
        if original is not None and not hasattr(original, MARK):
            layer.minimize_weight_bit_width = _fixed(original)


def _fixed(original: Any) -> Any:
    def minimize_weight_bit_width(self: Any, model: Any, datatype_only: bool = False) -> Any:
        from qonnx.core.datatype import DataType

        name = self.onnx_node.input[1]
        thresholds = model.get_initializer(name)
        is_hit = thresholds is not None and (thresholds.min(), thresholds.max()) == (-1, 0)
        if datatype_only or not is_hit or not self.get_input_datatype(1).is_integer():
            return original(self, model, datatype_only)
        self.set_nodeattr("weightDataType", "INT2")
        model.set_tensor_datatype(name, DataType["INT2"])
        return DataType["INT2"]

    setattr(minimize_weight_bit_width, MARK, original)
    return minimize_weight_bit_width
