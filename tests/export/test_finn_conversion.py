"""FINN's own conversion of an exported QONNX file computes what PyTorch computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brevitas.nn import QuantConv2d, QuantIdentity
from torch import nn

from brevitas_ftprop import export_qonnx
from brevitas_ftprop.quant import (
    TargetPropInt8ActPerTensorFixedPoint,
    TargetPropInt8WeightPerTensorFixedPoint,
    TargetPropSignedBinaryActPerTensorConst,
    TargetPropSignedTernaryActPerTensorConst,
    TargetPropStaircase3ActPerTensorConst,
    TargetPropStaircase5ActPerTensorConst,
    TargetPropUint8ActPerTensorConst,
)

ACTIVATIONS = {
    "sign": (TargetPropSignedBinaryActPerTensorConst, {}),
    "ternary": (TargetPropSignedTernaryActPerTensorConst, {}),
    "int2": (TargetPropInt8ActPerTensorFixedPoint, {"bit_width": 2, "collect_stats_steps": 1}),
    "staircase3": (TargetPropStaircase3ActPerTensorConst, {}),
    "staircase5": (TargetPropStaircase5ActPerTensorConst, {}),
    "ceil": (
        TargetPropUint8ActPerTensorConst,
        {"bit_width": 2, "max_val": 1.5, "float_to_int_impl_type": "ceil"},
    ),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_finn_reads_every_kind_of_activation_exactly(name, tmp_path):
    pytest.importorskip("finn", reason="finn-plus is not installed in this environment")
    from finn.transformation.qonnx.convert_qonnx_to_finn import ConvertQONNXtoFINN
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx

    quantizer, options = ACTIVATIONS[name]
    model = nn.Sequential(
        QuantIdentity(act_quant=TargetPropInt8ActPerTensorFixedPoint, collect_stats_steps=1),
        QuantConv2d(
            3,
            6,
            3,
            bias=False,
            weight_quant=TargetPropInt8WeightPerTensorFixedPoint,
            weight_bit_width=2,
        ),
        nn.BatchNorm2d(6),
        QuantIdentity(act_quant=quantizer, **options),
    )
    images = torch.randn(6, 3, 8, 8)
    for _ in range(3):
        model(images)
    # Without a shift, the last image's zeros reach the activation as zeros.
    model[2].running_mean.zero_()
    model.eval()
    images[-1] = 0
    # The dynamo exporter takes several times as long to write the same nodes.
    path = export_qonnx(model, images[:1], tmp_path / "model.onnx", dynamo=name == "sign")
    graph = ModelWrapper(str(path)).transform(ConvertQONNXtoFINN())
    assert not [node.op_type for node in graph.graph.node if "Quant" in node.op_type]
    for image in images.split(1):
        (found,) = execute_onnx(graph, {graph.graph.input[0].name: image.numpy()}).values()
        assert np.array_equal(found, model(image).detach().numpy())
