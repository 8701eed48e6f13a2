"""Methods of QONNX and FINN that compute something else on these graphs, corrected for a flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from onnx import NodeProto
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.infer_datatypes import InferDataTypes, _infer_node_datatype
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.transformation.remove import RemoveIdentityOps, remove_node_and_rewire

from ..graph_reading import initializer
from ..integer_types import integer_type

NEUTRAL = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1}


def corrections() -> Iterator[tuple[type, str, Callable[..., Any]]]:
    """Classes, the names of their methods, and what these are to be while a flow runs."""
    yield RemoveIdentityOps, "apply", remove_exact_identities
    yield InferDataTypes, "apply", types_that_hold_all_branches
    yield from layers_that_hold_minus_one_and_zero()
    yield from layers_of_one_bit()


def remove_exact_identities(
    self: RemoveIdentityOps, model: ModelWrapper
) -> tuple[ModelWrapper, bool]:
    """What ``RemoveIdentityOps.apply`` is to do: keep constants that are near 0 or 1.

    QONNX takes a shift below 1e-5 for none. A batch norm that gives values as small is then lost,
    and with it the thresholds that follow.

    References:
        qonnx 1.0.0, ``qonnx.transformation.remove.RemoveIdentityOps``.
    """
    removed = [node for node in model.graph.node if _is_identity(model, node)]
    for node in removed:
        remove_node_and_rewire(model, node)
    return model.transform(InferShapes()), bool(removed)


def _is_identity(model: ModelWrapper, node: NodeProto) -> bool:
    if node.op_type not in NEUTRAL:
        return node.op_type == "Identity"
    constant = initializer(model, node.input[1])
    return constant is not None and bool(np.all(constant == NEUTRAL[node.op_type]))


def types_that_hold_all_branches(
    self: InferDataTypes, model: ModelWrapper
) -> tuple[ModelWrapper, bool]:
    """What ``InferDataTypes.apply`` is to do: give a ``Concat`` a type that holds all its inputs.

    QONNX gives it the type of the first, and thresholds behind it are clipped to that.

    References:
        qonnx 1.0.0, ``qonnx.transformation.infer_datatypes``.
    """
    is_changed = False
    for node in model.graph.node:
        if node.op_type != "Concat":
            is_changed |= _infer_node_datatype(model, node, self.allow_scaledint_dtypes)
            continue
        kinds = [model.get_tensor_datatype(name) for name in node.input]
        kind = kinds[0]
        if not all(each.is_integer() for each in kinds):
            kind = DataType["FLOAT32"]
        elif any(each != kind for each in kinds):
            ends = min(each.min() for each in kinds), max(each.max() for each in kinds)
            kind = DataType[integer_type(*map(int, ends))]
        is_changed |= kind != model.get_tensor_datatype(node.output[0])
        model.set_tensor_datatype(node.output[0], kind)
    return model, is_changed


def layers_that_hold_minus_one_and_zero() -> Iterator[tuple[type, str, Callable[..., Any]]]:
    """Classes of FINN, and the methods with which they keep thresholds from -1 to 0.

    FINN's own takes the smallest type that holds -1, which is BIPOLAR and holds no 0, and stops.
    Layers whose smallest threshold is -1 and whose largest is 0 get INT2 here; all others go
    through FINN's own method.

    References:
        finn-plus 1.6.1, ``Thresholding.minimize_weight_bit_width`` (it knows of all zeros only).
    """
    from finn.custom_op.fpgadataflow.hls.thresholding_hls import Thresholding_hls
    from finn.custom_op.fpgadataflow.rtl.thresholding_rtl import Thresholding_rtl
    from finn.custom_op.fpgadataflow.thresholding import Thresholding

    name = Thresholding.minimize_weight_bit_width.__name__
    for layer in (Thresholding, Thresholding_hls, Thresholding_rtl):
        if name in vars(layer):
            yield layer, name, _fixed(vars(layer)[name])


def _fixed(original: Callable[..., Any]) -> Callable[..., Any]:
    def minimize_weight_bit_width(
        self: Any, model: ModelWrapper, datatype_only: bool = False
    ) -> Any:
        name = self.onnx_node.input[1]
        thresholds = initializer(model, name)
        is_hit = thresholds is not None and (thresholds.min(), thresholds.max()) == (-1, 0)
        if datatype_only or not is_hit or not self.get_input_datatype(1).is_integer():
            return original(self, model, datatype_only)
        self.set_nodeattr("weightDataType", "INT2")
        model.set_tensor_datatype(name, DataType["INT2"])
        return DataType["INT2"]

    return minimize_weight_bit_width


def layers_of_one_bit() -> Iterator[tuple[type, str, Callable[..., Any]]]:
    """Classes of FINN, and the methods with which weights of ±1 and counts of products have types.

    FINN's own takes two bits for weights of ±1, and BIPOLAR, which holds no 0, for those of -1 and
    0; here they have one and two. It takes the count of an xnor layer for the sum over the inputs
    that are 1, and cuts counts off that exceed it, such as the 576 of a 3×3 layer on 64 channels
    in INT10; here the type holds all products.

    References:
        finn-plus 1.6.1, ``MVAU`` and ``VVAU``: ``minimize_weight_bit_width`` and
        ``minimize_accumulator_width``.
    """
    from finn.custom_op.fpgadataflow.matrixvectoractivation import MVAU
    from finn.custom_op.fpgadataflow.vectorvectoractivation import VVAU

    for layer in (MVAU, VVAU):
        method = layer.minimize_weight_bit_width
        yield layer, method.__name__, _with_one_bit_weights(method)
    method = MVAU.minimize_accumulator_width
    yield MVAU, method.__name__, _with_all_counts(method)


def _with_one_bit_weights(original: Callable[..., Any]) -> Callable[..., Any]:
    def minimize_weight_bit_width(
        self: Any, model: ModelWrapper, datatype_only: bool = False
    ) -> Any:
        kind = original(self, model, datatype_only)
        weights = initializer(model, self.onnx_node.input[1])
        if not datatype_only and weights is not None and weights.min() == -1:
            if bool((np.abs(weights) == 1).all()):
                kind = DataType["BIPOLAR"]
            elif weights.max() == 0:
                kind = DataType["INT2"]
            self.set_nodeattr("weightDataType", kind.name)
        return kind

    return minimize_weight_bit_width


def _with_all_counts(original: Callable[..., Any]) -> Callable[..., Any]:
    def minimize_accumulator_width(
        self: Any, model: ModelWrapper, datatype_only: bool = False
    ) -> Any:
        kind = original(self, model, datatype_only)
        if self.get_nodeattr("binaryXnorMode"):
            bits = int(self.get_nodeattr("MW")).bit_length()
            if model.find_direct_successors(self.onnx_node) is None:
                # As FINN has it for what leaves the accelerator.
                bits = -(-bits // 8) * 8
            kind = DataType[f"UINT{bits}"]
            self.set_nodeattr("accDataType", kind.name)
            if self.get_nodeattr("noActivation"):
                self.set_nodeattr("outputDataType", kind.name)
        return kind

    return minimize_accumulator_width
