"""The steps from a QONNX file to a folded dataflow partition."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from finn.builder.build_dataflow_config import DataflowBuildConfig
from finn.transformation.fpgadataflow.convert_to_hw.thresholding import InferThresholdingLayer
from finn.transformation.fpgadataflow.convert_to_hw.upsample import InferUpsample
from finn.transformation.qonnx.convert_qonnx_to_finn import ConvertQONNXtoFINN
from finn.transformation.streamline.absorb import AbsorbScalarMulAddIntoTopK
from finn.transformation.streamline.collapse_repeated import CollapseRepeatedMul
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation import general
from qonnx.transformation.fold_constants import FoldConstants
from qonnx.transformation.infer_datatypes import InferDataTypes
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.transformation.insert_topk import InsertTopK

from ..accelerator_io import AcceleratorIO
from .execution import HARDWARE
from .passes import (
    PLAINER,
    ChannelsLastInput,
    IntegerBias,
    IntegerInput,
    IntegerOutput,
    QuantToThresholds,
    RethresholdPooledFork,
    ThresholdBeforePool,
    TruncatedPoolToQuantAvgPool,
    UnsignedPaddedPool,
)
from .streamlining_orders import has_joins, streamlining
from .tracking import apply, keep_notes


def forms(model: ModelWrapper, io: AcceleratorIO, config: DataflowBuildConfig) -> ModelWrapper:
    """Quantizers as thresholds, pools in FINN's forms, images and result as asked for."""
    entry = [IntegerInput(io.datatype, io.thresholds, io.factor)] if io.takes_integers else []
    return apply(
        model,
        [
            *(each() for each in PLAINER),
            QuantToThresholds(),
            *entry,
            TruncatedPoolToQuantAvgPool(),
            ThresholdBeforePool(),
            UnsignedPaddedPool(),
            *([RethresholdPooledFork()] if has_joins(model) else []),
            *([InsertTopK(k=1)] if io.result == "class" else []),
            InferShapes(),
        ],
    )


def finn(model: ModelWrapper, io: AcceleratorIO, config: DataflowBuildConfig) -> ModelWrapper:
    """FINN's dialect: integer weights, no Gemm, names and types everywhere."""
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


def streamlined(
    model: ModelWrapper, io: AcceleratorIO, config: DataflowBuildConfig
) -> ModelWrapper:
    """Scales and batch norms in the thresholds, convolutions as matrix products."""
    ends = {
        "logits": (),
        "integers": (IntegerBias(is_class=False), CollapseRepeatedMul(), InferDataTypes()),
        "class": (IntegerBias(is_class=True), AbsorbScalarMulAddIntoTopK(), InferDataTypes()),
    }
    outputs = [IntegerOutput()] if io.result == "integers" else []
    return apply(model, [*streamlining(model), *ends[io.result], *outputs])


def hardware(model: ModelWrapper, io: AcceleratorIO, config: DataflowBuildConfig) -> ModelWrapper:
    """Every node a hardware layer, with the smallest types that hold its integers."""
    # Thresholds by themselves, so that each new node can be told to be the quantizer that it
    # replaces; FINN's own step looks for upsampling by an operator that ONNX has given up.
    model = apply(
        model,
        [
            ChannelsLastInput(transposed=not io.takes_integers),
            InferThresholdingLayer(),
            InferUpsample(),
        ],
    )
    return _built(model, config, "convert_to_hw", "minimize_bit_width_initial")


def partition(model: ModelWrapper, io: AcceleratorIO, config: DataflowBuildConfig) -> ModelWrapper:
    """One dataflow partition with all hardware layers in it."""
    return _built(model, config, "create_dataflow_partition")


def folded(model: ModelWrapper, io: AcceleratorIO, config: DataflowBuildConfig) -> ModelWrapper:
    """Each layer in its RTL or HLS form, folded for the target throughput, with estimates."""
    return _built(
        model,
        config,
        "specialize_layers",
        "target_fps_parallelization",
        "minimize_bit_width",
        "generate_estimate_reports",
    )


def _built(model: ModelWrapper, config: DataflowBuildConfig, *names: str) -> ModelWrapper:
    """What some steps of FINN's builder, which only ``finn_environment`` can import, make of it."""
    from finn.builder import build_dataflow_steps

    for name in names:
        step = getattr(build_dataflow_steps, f"step_{name}")
        model = keep_notes(model, partial(step, cfg=config))
    return model


Step = Callable[[ModelWrapper, AcceleratorIO, DataflowBuildConfig], ModelWrapper]
STEPS: dict[str, Step] = {
    step.__name__: step for step in (forms, finn, streamlined, hardware, partition, folded)
}


def software_nodes(model: ModelWrapper) -> list[str]:
    """Names of the nodes that are no hardware layers."""
    return [node.name for node in model.graph.node if not node.domain.startswith(HARDWARE)]
