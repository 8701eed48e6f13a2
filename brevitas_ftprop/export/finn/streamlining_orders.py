"""Which of FINN's streamlining transformations run in which order.

FINN's own order is made for its example networks; on these graphs it computes something else
without saying so, or leaves nodes behind. What decides is whether the graph forks.
"""

from __future__ import annotations

from collections.abc import Sequence

from finn.transformation.fpgadataflow.convert_to_hw.global_acc_pool import InferGlobalAccPoolLayer
from finn.transformation.streamline import Streamline, absorb, collapse_repeated, reorder
from finn.transformation.streamline.round_thresholds import RoundAndClipThresholds
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation import general
from qonnx.transformation.base import Transformation
from qonnx.transformation.batchnorm_to_affine import BatchNormToAffine
from qonnx.transformation.change_datalayout import ChangeDataLayoutQuantAvgPool2d
from qonnx.transformation.composed import ComposedTransformation
from qonnx.transformation.double_to_single_float import DoubleToSingleFloat
from qonnx.transformation.infer_data_layouts import InferDataLayouts
from qonnx.transformation.infer_datatypes import InferDataTypes
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.transformation.lower_convs_to_matmul import LowerConvsToMatMul
from qonnx.transformation.remove import RemoveIdentityOps

from .passes import (
    AbsorbSummandIntoThresholds,
    AffineBehindConcat,
    ChannelsLastCopies,
    OneBitSigns,
    PadIntegers,
    PadIntoWindows,
    ReachConstantThresholds,
    UnsignedPaddedWindows,
    UnsignedZeroFactors,
)

# Scales reach the sums one block a round.
ROUNDS = 4


def has_joins(model: ModelWrapper) -> bool:
    """Whether a graph adds or joins two computed tensors, or copies one by upsampling."""
    known = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("Concat", "Resize"):
            return True
        if node.op_type == "Add" and not known.intersection(node.input):
            return True
    return False


def streamlining(model: ModelWrapper) -> list[Transformation]:
    """FINN's transformations that streamline a graph of MultiThresholds, in order.

    Args:
        model: a graph behind ``ConvertQONNXtoFINN``.

    References:
        finn-plus 1.6.1, ``finn.transformation.streamline`` and
        ``finn.builder.custom_step_library.resnet`` (the transformations, not the orders).
    """
    order = _residual() if has_joins(model) else _chain()
    return [UnsignedZeroFactors(), AbsorbSummandIntoThresholds(), *order, *_tail()]


def _chain() -> list[Transformation]:
    return [
        # Of a negative factor only -1, which keeps integers, may stay before a pool or the result.
        general.ConvertDivToMul(),
        collapse_repeated.CollapseRepeatedMul(),
        absorb.FactorOutMulSignMagnitude(),
        reorder.MoveMulPastMaxPool(),
        reorder.MoveMulPastDWConv(),
        PadIntegers(),
        absorb.AbsorbScalarMulAddIntoTopK(),
        Streamline(),
        LowerConvsToMatMul(),
        PadIntoWindows(),
        ChangeDataLayoutQuantAvgPool2d(),
        reorder.MakeMaxPoolNHWC(),
        absorb.AbsorbTransposeIntoMultiThreshold(),
        reorder.MakeMaxPoolNHWC(),
        absorb.AbsorbConsecutiveTransposes(),
        Streamline(),
    ]


def _residual() -> list[Transformation]:
    a_round = [
        absorb.AbsorbScalarMulAddIntoTopK(),
        general.ConvertSubToAdd(),
        general.ConvertDivToMul(),
        RemoveIdentityOps(),
        collapse_repeated.CollapseRepeatedMul(),
        BatchNormToAffine(),
        reorder.MoveAddPastMul(),
        reorder.MoveScalarAddPastMatMul(),
        reorder.MoveAddPastConv(),
        reorder.MoveScalarMulPastMatMul(),
        reorder.MoveScalarMulPastConv(),
        reorder.MoveMulPastDWConv(),
        reorder.MoveScalarLinearPastInvariants(),
        reorder.MoveAddPastMul(),
        collapse_repeated.CollapseRepeatedAdd(),
        collapse_repeated.CollapseRepeatedMul(),
        absorb.AbsorbAddIntoMultiThreshold(),
        absorb.FactorOutMulSignMagnitude(),
        absorb.AbsorbMulIntoMultiThreshold(),
        ReachConstantThresholds(),
        absorb.Absorb1BitMulIntoMatMul(),
        absorb.Absorb1BitMulIntoConv(),
        RoundAndClipThresholds(),
        # First: where a summand's scale has other readers, the next one ties a loop.
        reorder.MoveLinearPastFork(),
        reorder.MoveLinearPastEltwiseAdd(),
        reorder.MoveLinearPastFork(),
        AffineBehindConcat(),
    ]
    to_joins = [reorder.MoveMulPastFork(), AffineBehindConcat(), reorder.MoveMulPastMaxPool()]
    return [
        *to_joins * ROUNDS,
        PadIntegers(),
        absorb.AbsorbScalarBiasIntoMultiThreshold(),
        *[step for _ in range(ROUNDS) for step in (*a_round, *_names())],
        DoubleToSingleFloat(),
        LowerConvsToMatMul(),
        PadIntoWindows(),
        ChangeDataLayoutQuantAvgPool2d(),
        reorder.MakeMaxPoolNHWC(),
        absorb.AbsorbConsecutiveTransposes(),
        absorb.AbsorbTransposeIntoMultiThreshold(),
        reorder.MakeMaxPoolNHWC(),
        absorb.AbsorbConsecutiveTransposes(),
        *_names(),
        ComposedTransformation(
            [
                reorder.MoveTransposePastJoinAdd(),
                reorder.MoveTransposePastFork(),
                reorder.MoveTransposePastEltwise(),
                ChannelsLastCopies(),
                absorb.AbsorbConsecutiveTransposes(),
                absorb.AbsorbTransposeIntoMultiThreshold(),
                reorder.MakeMaxPoolNHWC(),
            ]
        ),
        absorb.AbsorbConsecutiveTransposes(),
    ]


def _tail() -> list[Transformation]:
    """Thresholds to integers, and the scales behind a global pool to the end of the graph."""
    return [
        absorb.AbsorbTransposeIntoMultiThreshold(),
        absorb.AbsorbConsecutiveTransposes(),
        *_names(),
        ReachConstantThresholds(),
        RoundAndClipThresholds(),
        InferGlobalAccPoolLayer(),
        reorder.MoveScalarLinearPastInvariants(),
        absorb.AbsorbTransposeIntoFlatten(),
        reorder.MoveScalarLinearPastInvariants(),
        reorder.MoveScalarMulPastMatMul(),
        *_names(),
        collapse_repeated.CollapseRepeatedMul(),
        absorb.AbsorbScalarMulAddIntoTopK(),
        OneBitSigns(),
        UnsignedPaddedWindows(),
        # On unsigned integers none may lie below 0.
        RoundAndClipThresholds(),
        *_names(),
    ]


def _names() -> Sequence[Transformation]:
    return (
        general.RemoveUnusedTensors(),
        general.GiveUniqueNodeNames(),
        general.SortGraph(),
        InferShapes(),
        InferDataLayouts(),
        InferDataTypes(),
    )
