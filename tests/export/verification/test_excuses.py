"""An excuse is for rounding: it looks at the file's own pre-activation."""

from __future__ import annotations

import brevitas.nn as qnn
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from brevitas_ftprop import quant
from brevitas_ftprop.export import export_qcdq, export_qonnx, verify_export
from brevitas_ftprop.export.verification.differences import Risk, compare_in_layer
from brevitas_ftprop.export.verification.rounding import Bounded
from brevitas_ftprop.export.verification.verify_report import QuantizerReport
from brevitas_ftprop.levels import level_function

WEIGHTS = {"weight_quant": quant.TargetPropSignedBinaryWeightPerTensorUnit, "bias": False}


def sign() -> nn.Module:
    return qnn.QuantIdentity(quant.TargetPropSignedBinaryActPerTensorConst)


@pytest.fixture(scope="module")
def ties():
    """Sums of eight signs are even, and many lie exactly on the threshold, a mean of 2."""
    torch.manual_seed(0)
    layers = (sign(), qnn.QuantLinear(8, 64, **WEIGHTS), nn.BatchNorm1d(64), sign())
    net = nn.Sequential(*layers, qnn.QuantLinear(64, 10, **WEIGHTS)).eval()
    net[2].running_mean.fill_(2.0)
    with torch.no_grad():
        net[2].weight.uniform_(0.5, 2)
    return net, torch.randn(32, 8)


@pytest.fixture(scope="module", params=[export_qonnx, export_qcdq], ids=["qonnx", "qcdq"])
def exported(request, ties, tmp_path_factory):
    net, x = ties
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    return net, request.param(net, x[:8], path, dynamo=False), x


def changed(path, tmp_path, position: int, change):
    """The file with another constant of its batch norm."""
    graph = onnx.load(path)
    norm = next(node for node in graph.graph.node if node.op_type == "BatchNormalization")
    tensor = next(t for t in graph.graph.initializer if t.name == norm.input[position])
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
    onnx.save(graph, tmp_path / "changed.onnx")
    return tmp_path / "changed.onnx"


@pytest.mark.parametrize("shift", [-1.9, -1e-3, -1e-5])
def test_a_shift_that_only_ties_feel_is_found(exported, shift, tmp_path):
    net, path, x = exported
    assert verify_export(net, path, x).ok
    path = changed(path, tmp_path, 2, lambda beta: np.full_like(beta, shift))
    report = verify_export(net, path, x)
    act = next(q for q in report.quantizers if q.name == "3.act_quant")
    assert report.first_difference == "3.act_quant"
    assert act.at_risk > 100
    assert act.excused == 0
    assert report.outputs[0].excused == 0
    assert report.outputs[0].mismatches > 0


def test_a_shift_within_the_bound_is_excused(exported, tmp_path):
    net, path, x = exported
    path = changed(path, tmp_path, 2, lambda beta: np.full_like(beta, -3e-7))
    report = verify_export(net, path, x)
    assert report.ok, str(report)
    assert report.excused > 100


@pytest.mark.parametrize("position", [1, 2, 3, 4])
def test_a_constant_of_the_wrong_channel_is_found(exported, position, tmp_path):
    net, path, x = exported
    other = torch.linspace(0.9, 1.1, 64).numpy()
    moved = changed(path, tmp_path, position, lambda value: value * other + (value == 0) * other)
    assert verify_export(net, moved, x).first_difference == "3.act_quant"


def test_a_pre_activation_that_is_off_is_found_though_no_integer_differs(tmp_path):
    torch.manual_seed(0)
    layers = (sign(), qnn.QuantLinear(7, 5, **WEIGHTS), nn.BatchNorm1d(5), sign())
    net = nn.Sequential(*layers, qnn.QuantLinear(5, 3, **WEIGHTS)).eval()
    x = torch.randn(4, 7)
    path = export_qonnx(net, x, tmp_path / "model.onnx", dynamo=False)
    # Sums of seven signs are odd: none lies between 0 and 1/2.
    path = changed(path, tmp_path, 2, lambda beta: beta + np.float32(0.5))
    report = verify_export(net, path, x)
    assert report.outputs[0].mismatches == 0
    assert report.first_difference == "3.act_quant"
    act = next(q for q in report.quantizers if q.name == "3.act_quant")
    assert act.layer_mismatches == 20


@pytest.mark.parametrize(
    ("own", "of_file", "excused", "mismatches"),
    [
        (0.0, 0.0, 1, 0),
        (0.1, -0.1, 1, 0),
        (0.0, -0.15, 0, 1),  # Beyond the bound: no excuse.
        (0.0, -1.9, 0, 1),
        (1.9, 0.0, 0, 1),  # PyTorch's own: the bound is not of this model.
        (0.0, float("nan"), 0, 1),
    ],
)
def test_a_unit_is_excused_with_both_pre_activations_within_the_bound(
    own, of_file, excused, mismatches
):
    function = level_function(sign().act_quant)
    report = QuantizerReport("act", "activation")
    plus, minus = torch.ones(1, 1), -torch.ones(1, 1)
    z = Bounded(*torch.tensor([[[0.0]], [[0.125]]], dtype=torch.float64))
    sources = torch.tensor([[own]]), torch.tensor([[of_file]])
    compare_in_layer(report, function, plus, minus, z, first_image=0, sources=sources)
    assert (report.excused, report.layer_mismatches) == (excused, mismatches)


def test_optimizations_that_move_a_pre_activation_are_no_excuse():
    at_risk = torch.tensor([[True, False, True]])
    low, high = (torch.tensor([-0.1, 0.9], dtype=torch.float64) + end for end in (0.0, 0.2))
    risk = Risk(at_risk, low, high)
    assert risk.excuses(torch.tensor([[0.05, 7.0, 1.5]])).tolist() == [[True, False, False]]
    assert risk.excuses(None).tolist() == at_risk.tolist()
