"""A QONNX file that declares other integer types than the model has is found out."""

from __future__ import annotations

import brevitas.nn as qnn
import numpy as np
import onnx
import pytest
import torch
from torch import nn

from brevitas_ftprop import export_qonnx, quant, verify_export


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(0)
    model = nn.Sequential(
        qnn.QuantIdentity(act_quant=quant.TargetPropStaircase3ActPerTensorConst),
        qnn.QuantLinear(
            4,
            3,
            bias=False,
            weight_quant=quant.TargetPropInt8WeightPerTensorFloat,
            weight_bit_width=4,
        ),
        qnn.QuantIdentity(act_quant=quant.TargetPropSignedTernaryActPerTensorConst),
    ).eval()
    path = tmp_path_factory.mktemp("declared") / "model.onnx"
    return model, export_qonnx(model, torch.zeros(1, 4), path, dynamo=False)


def verified(exported, tmp_path, change):
    model, path = exported
    graph = onnx.load(path)
    change(graph.graph)
    onnx.save(graph, tmp_path / "changed.onnx")
    return verify_export(model, tmp_path / "changed.onnx", torch.randn(8, 4))


def attribute(graph, node_name, name):
    node = next(node for node in graph.node if node.name == node_name)
    return next(a for a in node.attribute if a.name == name)


def test_an_unchanged_file_is_fine(exported, tmp_path):
    assert verified(exported, tmp_path, lambda graph: None).ok


@pytest.mark.parametrize("declared", [b"INT2", b"UINT3", b"UINT8", b"FLOAT32"])
def test_another_type_of_a_multithreshold_is_found(exported, tmp_path, declared):
    def change(graph):
        attribute(graph, "MultiThreshold_0", "out_dtype").s = declared

    report = verified(exported, tmp_path, change)
    assert report.first_difference == "0.act_quant"
    assert "another integer type" in str(report)


@pytest.mark.parametrize("name", ["narrow", "signed"])
def test_another_range_of_a_weight_is_found(exported, tmp_path, name):
    def change(graph):
        entry = attribute(graph, "Quant_0", name)
        entry.i = 1 - entry.i

    assert verified(exported, tmp_path, change).first_difference == "1.weight_quant"


def test_another_bit_width_of_a_weight_is_found(exported, tmp_path):
    def change(graph):
        node = next(node for node in graph.node if node.name == "Quant_0")
        tensor = next(t for t in graph.initializer if t.name == node.input[3])
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(5, np.float32), tensor.name))

    assert verified(exported, tmp_path, change).first_difference == "1.weight_quant"
