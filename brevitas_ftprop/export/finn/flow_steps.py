"""The steps from a QONNX file to a folded dataflow partition."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..accelerator_io import AcceleratorIO
from .execution import HARDWARE
from .passes import (
    AveragePoolToGlobal,
    ChannelsLastInput,
    IntegerOutput,
    QuantToThresholds,
    RethresholdPooledFork,
    ThresholdBeforePool,
    Uint8Input,
    UnsignedPaddedPool,
)
from .streamlining_orders import has_joins, streamlining
from .tracking import apply, keep_notes

__all__ = ["STEPS", "software_nodes"]


def forms(model: Any, io: AcceleratorIO, config: Any) -> Any:
    """Quantizers as thresholds, pools and averages in FINN's forms, its ends as asked for."""
    from qonnx.transformation.infer_shapes import InferShapes
    from qonnx.transformation.insert_topk import InsertTopK

    return apply(
        model,
        [
            QuantToThresholds(),
            ThresholdBeforePool(),
            UnsignedPaddedPool(),
            *([RethresholdPooledFork()] if has_joins(model) else []),
            AveragePoolToGlobal(),
            *([Uint8Input(io.mean, io.std)] if io.images == "uint8" else []),
            *([InsertTopK(k=1)] if io.result == "class" else []),
            InferShapes(),
        ],
    )


def finn(model: Any, io: AcceleratorIO, config: Any) -> Any:
    """FINN's dialect: integer weights, no Gemm, names and types everywhere."""
    from finn.transformation.qonnx.convert_qonnx_to_finn import ConvertQONNXtoFINN
    from qonnx.transformation import general
    from qonnx.transformation.fold_constants import FoldConstants
    from qonnx.transformation.infer_datatypes import InferDataTypes
    from qonnx.transformation.infer_shapes import InferShapes

    return apply(
        model,
        [
            ConvertQONNXtoFINN(),
            InferShapes(),
            FoldConstants(),
            general.GiveUniqueNodeNames(),
            general.GiveReadableTensorNames(),
            InferDataTypes(),
            general.RemoveStaticGraphInputs(),
        ],
    )


def streamlined(model: Any, io: AcceleratorIO, config: Any) -> Any:
    """Scales and batch norms in the thresholds, convolutions as matrix products."""
    ends = [IntegerOutput()] if io.result == "integers" else []
    return apply(model, [*streamlining(model), *ends])


def hardware(model: Any, io: AcceleratorIO, config: Any) -> Any:
    """Every node a hardware layer, with the smallest types that hold its integers."""
    from finn.builder import build_dataflow_steps as finn_steps
    from finn.transformation.fpgadataflow.convert_to_hw.thresholding import InferThresholdingLayer

    # By themselves, so that each new node can be told to be the quantizer that it replaces.
    model = apply(
        model, [ChannelsLastInput(transposed=io.images == "float"), InferThresholdingLayer()]
    )
    for step in (finn_steps.step_convert_to_hw, finn_steps.step_minimize_bit_width_initial):
        model = keep_notes(model, partial(step, cfg=config))
    return model


def partition(model: Any, io: AcceleratorIO, config: Any) -> Any:
    """One dataflow partition with all hardware layers in it."""
    from finn.builder import build_dataflow_steps as finn_steps

    return keep_notes(model, partial(finn_steps.step_create_dataflow_partition, cfg=config))


def folded(model: Any, io: AcceleratorIO, config: Any) -> Any:
    """Each layer in its RTL or HLS form, folded for the target throughput, with estimates."""
    from finn.builder import build_dataflow_steps as finn_steps

    for step in (
        finn_steps.step_specialize_layers,
        finn_steps.step_target_fps_parallelization,
        finn_steps.step_minimize_bit_width,
        finn_steps.step_generate_estimate_reports,
    ):
        model = keep_notes(model, partial(step, cfg=config))
    return model


STEPS: dict[str, Callable[[Any, AcceleratorIO, Any], Any]] = {
    step.__name__: step for step in (forms, finn, streamlined, hardware, partition, folded)
}


def software_nodes(model: Any) -> list[str]:
    """Names of the nodes that are no hardware layers."""
    return [node.name for node in model.graph.node if not node.domain.startswith(HARDWARE)]
