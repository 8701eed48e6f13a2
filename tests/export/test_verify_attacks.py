"""No file excuses itself: what it may differ by is told by the model alone."""

from __future__ import annotations

import brevitas.nn as qnn
import numpy as np
import onnx
import pytest
import torch
from torch import nn

from brevitas_ftprop import quant
from brevitas_ftprop.export import ExportError, export_qcdq, export_qonnx, verify_export

HUGE = 1e12


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    weights = {
        "weight_quant": quant.TargetPropInt8WeightPerTensorFixedPoint,
        "weight_bit_width": 4,
    }
    net = nn.Sequential(
        qnn.QuantIdentity(act_quant=quant.TargetPropUint8ActPerTensorFixedPoint),
        qnn.QuantConv2d(3, 4, 3, bias=False, **weights),
        nn.BatchNorm2d(4),
        qnn.QuantIdentity(act_quant=quant.TargetPropSignedBinaryActPerTensorConst),
        nn.Flatten(),
        qnn.QuantLinear(64, 5, bias=True, **weights),
    )
    for _ in range(3):
        net(torch.rand(16, 3, 6, 6))
    return net.eval()


@pytest.fixture
def graph(model, tmp_path):
    return onnx.load(export_qcdq(model, torch.zeros(1, 3, 6, 6), tmp_path / "model.onnx"))


def shift_batch_norm(graph):
    """y = (x - mean)·alpha + beta with mean and beta so large that most of x is lost."""
    (node,) = (n for n in graph.graph.node if n.op_type == "BatchNormalization")
    tensors = {t.name: t for t in graph.graph.initializer}
    _, scale, bias, mean, var = node.input
    values = {n: onnx.numpy_helper.to_array(tensors[n]).copy() for n in (scale, bias, mean, var)}
    deviation = (values[var] + 1e-5) ** 0.5
    values[mean] += (HUGE * deviation / values[scale]).astype("float32")
    values[bias] += HUGE
    for name in (mean, bias):
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(values[name].astype("float32"), name))


def detour(graph, name: str):
    """Add a huge constant to a tensor and take it away again."""
    constant = onnx.helper.make_tensor("huge", onnx.TensorProto.FLOAT, [], [1e30])
    graph.graph.initializer.append(constant)
    nodes = list(graph.graph.node)
    position = next(i for i, node in enumerate(nodes) if name in node.output)
    nodes[position].output[0] = "before"
    nodes[position + 1 : position + 1] = [
        onnx.helper.make_node("Add", ["before", "huge"], ["there"]),
        onnx.helper.make_node("Sub", ["there", "huge"], [name]),
    ]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)


def test_a_batch_norm_that_loses_its_input_to_rounding_is_no_excuse(model, graph, tmp_path):
    shift_batch_norm(graph)
    onnx.save(graph, tmp_path / "changed.onnx")
    report = verify_export(model, tmp_path / "changed.onnx", torch.rand(4, 3, 6, 6))
    assert report.first_difference == "3.act_quant"


def test_a_detour_through_a_huge_number_is_no_excuse(model, graph, tmp_path):
    (node,) = (n for n in graph.graph.node if n.op_type == "BatchNormalization")
    detour(graph, node.output[0])
    onnx.save(graph, tmp_path / "changed.onnx")
    report = verify_export(model, tmp_path / "changed.onnx", torch.rand(4, 3, 6, 6))
    assert report.first_difference == "3.act_quant"


def test_a_detour_before_the_output_is_no_excuse(model, graph, tmp_path):
    detour(graph, "output")
    onnx.save(graph, tmp_path / "changed.onnx")
    report = verify_export(model, tmp_path / "changed.onnx", torch.rand(4, 3, 6, 6))
    assert report.first_difference == "output"


@pytest.mark.parametrize("export", [export_qonnx, export_qcdq])
@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
@pytest.mark.cover(1)
def test_a_head_without_a_rounding_bound_is_compared_with_a_tolerance(
    model, export, dynamo, tmp_path
):
    classifier = nn.Sequential(model, nn.LogSoftmax(1))
    images = torch.rand(4, 3, 6, 6)
    path = export(classifier, images[:1], tmp_path / "model.onnx", dynamo=dynamo)
    report = verify_export(classifier, path, images)
    assert report.ok, str(report)
    assert report.unbounded == ["LogSoftmax"]
    classifier[0][5].bias.data[0] += 0.01
    assert verify_export(classifier, path, images).first_difference == "output"
    classifier[0][5].bias.data[0] -= 0.01


def test_a_batch_that_requires_gradients_is_fine(model, graph, tmp_path):
    onnx.save(graph, tmp_path / "same.onnx")
    images = torch.rand(2, 3, 6, 6, requires_grad=True)
    assert verify_export(model, tmp_path / "same.onnx", images).ok


@pytest.mark.parametrize("export", [export_qonnx, export_qcdq])
@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
@pytest.mark.cover(1)
def test_a_model_that_returns_a_quant_tensor_is_refused(export, dynamo, tmp_path):
    model = nn.Sequential(qnn.QuantIdentity(return_quant_tensor=True)).eval()
    with pytest.raises(ExportError, match="returns a IntQuantTensor, but files have one plain"):
        export(model, torch.zeros(1, 4), tmp_path / "model.onnx", dynamo=dynamo)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("export", [export_qonnx, export_qcdq])
def test_an_integer_quantizer_of_one_bit_is_refused_by_name(export, tmp_path):
    act = qnn.QuantIdentity(
        act_quant=quant.TargetPropUint8ActPerTensorFloatMaxInit, bit_width=1, max_val=1.0
    )
    with pytest.raises(ExportError, match=r"0\.act_quant: .*1 bit"):
        export(nn.Sequential(act).eval(), torch.zeros(1, 4), tmp_path / "model.onnx")


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
def test_one_changed_threshold_of_a_staircase_is_found_and_named(dynamo, tmp_path):
    model = nn.Sequential(
        qnn.QuantIdentity(act_quant=quant.TargetPropUint8ActPerTensorFixedPoint),
        nn.BatchNorm2d(3),
        qnn.QuantIdentity(act_quant=quant.TargetPropStaircase3ActPerTensorConst),
    )
    images = torch.rand(4, 3, 6, 6)
    model(images)
    path = export_qonnx(model.eval(), images[:1], tmp_path / "model.onnx", dynamo=dynamo)
    assert verify_export(model, path, images).ok
    for level in range(3):
        graph = onnx.load(path)
        (node,) = (n for n in graph.graph.node if n.op_type == "MultiThreshold")
        tensor = next(t for t in graph.graph.initializer if t.name == node.input[1])
        thresholds = onnx.numpy_helper.to_array(tensor).copy()
        thresholds[0, level] = np.nextafter(thresholds[0, level], np.float32(9))
        tensor.CopyFrom(onnx.numpy_helper.from_array(thresholds, tensor.name))
        onnx.save(graph, tmp_path / "changed.onnx")
        report = verify_export(model, tmp_path / "changed.onnx", images)
        assert report.first_difference == "2.act_quant", str(report)
