"""QCDQ files are standard ONNX; both kinds of files are written cleanly."""

from __future__ import annotations

import copy
import logging
import os
import stat

import brevitas.nn as qnn
import onnx
import pytest
import torch
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    ShiftedUint8ActPerTensorFloat,
    SignedBinaryActPerTensorConst,
    SignedBinaryWeightPerTensorConst,
)
from torch import nn

from brevitas_ftprop.export import ExportError, export_qcdq, export_qonnx, verify_export
from brevitas_ftprop.export.quantizers import quantizer_proxies
from brevitas_ftprop.export.tags import sites_of
from brevitas_ftprop.export.verification.runners import LEVELS, OrtRunner
from brevitas_ftprop.quant import TargetPropInt8WeightPerTensorFloat

pytestmark = pytest.mark.cover(1)

EXAMPLE = torch.zeros(1, 4)


def test_the_file_is_standard_onnx(qcdq):
    graph = onnx.load(qcdq.path)
    assert [entry.domain for entry in graph.opset_import] == [""]
    assert not [node for node in graph.graph.node if node.domain]
    onnx.checker.check_model(graph, full_check=True)


def test_input_and_output_have_plain_names(qcdq):
    graph = onnx.load(qcdq.path).graph
    assert [entry.name for entry in graph.input] == ["input"]
    assert [entry.name for entry in graph.output] == ["output"]


def test_each_quantizer_call_has_its_nodes(qcdq):
    calls = {(site.name, site.call) for site in sites_of(onnx.load(qcdq.path))}
    expected = {(name, 0) for name in quantizer_proxies(qcdq.model)}
    assert calls == expected | {("shared.act_quant", 1)}


def test_onnx_runtime_puts_no_integer_layer_in_place_of_a_float_one(qcdq):
    graph = onnx.load(qcdq.path)
    for level in LEVELS:
        operators = {node.op_type for node in OrtRunner.optimized(graph, level=level).graph.node}
        assert not {name for name in operators if name.startswith("Q") and name != "QuantizeLinear"}
        assert not operators & {"MatMulNBits", "MatMulIntegerToFloat", "ConvInteger"}


def test_no_initializer_is_an_input_and_none_goes_unused(exported):
    graph = onnx.load(exported.path).graph
    initializers = {tensor.name for tensor in graph.initializer}
    assert not initializers & {entry.name for entry in graph.input}
    assert initializers <= {name for node in graph.node for name in node.input}


def test_no_local_path_or_stack_trace_is_in_the_file(exported):
    content = exported.path.read_bytes()
    for secret in (b"stack_trace", b"pkg.torch", b"File ", os.getcwd().encode(), b".py"):
        assert secret not in content


def test_nothing_else_is_left_in_the_folder(exported):
    assert list(exported.path.parent.iterdir()) == [exported.path]


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("export", [export_qonnx, export_qcdq])
def test_exporting_prints_nothing(export, dynamo, make_small, tmp_path, capfd, recwarn, caplog):
    model = make_small()
    # Brevitas' first pass in a process has torch warn of named tensors.
    recwarn.clear()
    export(model, EXAMPLE, tmp_path / "model.onnx", dynamo=dynamo)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    # torch writes debug records to a trace logger of its own, which nobody sees.
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


@pytest.mark.parametrize("export", [export_qonnx, export_qcdq])
def test_an_existing_file_is_only_replaced_on_request(export, make_small, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export(make_small(), EXAMPLE, path)
    assert path.read_text() == "mine"
    export(make_small(), EXAMPLE, path, dynamo=False, overwrite=True)
    assert verify_export(make_small(), path, EXAMPLE) is not None


def test_a_failed_export_leaves_the_old_file_alone(make_small, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_text("mine")
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        export_qcdq(make_small(), EXAMPLE, path, dynamo=False, overwrite=True)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_has_the_permissions_of_any_new_file(make_small, tmp_path):
    other = tmp_path / "other"
    other.touch()
    path = export_qcdq(make_small(), EXAMPLE, tmp_path / "model.onnx", dynamo=False)
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_a_replaced_file_keeps_its_permissions(make_small, tmp_path):
    path = tmp_path / "model.onnx"
    path.touch(0o600)
    export_qcdq(make_small(), EXAMPLE, path, dynamo=False, overwrite=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_missing_folder_is_refused(make_small, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        export_qcdq(make_small(), EXAMPLE, tmp_path / "missing" / "model.onnx")


def test_a_folder_as_path_is_refused(make_small, tmp_path):
    with pytest.raises(IsADirectoryError, match="path of a file"):
        export_qcdq(make_small(), EXAMPLE, tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(make_small, tmp_path, monkeypatch):
    # The tests may run as root, who may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="cannot be written"):
        export_qcdq(make_small(), EXAMPLE, tmp_path / "model.onnx")


@pytest.mark.parametrize("export", [export_qonnx, export_qcdq])
@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        (lambda model: nn.Linear(4, 2), ValueError, "no enabled Brevitas quantizer"),
        (lambda model: model.double(), TypeError, "only float32"),
        (lambda model: torch.jit.script(nn.Linear(4, 2)), TypeError, "scripted"),
        (lambda model: None, TypeError, "torch.nn.Module"),
        (lambda model: model.to("meta"), ValueError, "CPU"),
    ],
    ids=["stock", "double", "scripted", "none", "meta"],
)
def test_a_model_that_cannot_be_exported_is_refused(
    export, change, error, reason, make_small, tmp_path
):
    with pytest.raises(error, match=reason):
        export(change(make_small()), EXAMPLE, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_model_left_in_export_mode_by_brevitas_is_refused(make_small, tmp_path):
    model = make_small()
    model[0].act_quant._export_mode = True
    with pytest.raises(ExportError, match=r"0.act_quant is in export or inference mode"):
        export_qcdq(model, EXAMPLE, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("example", "error"),
    [
        ((1, 4), TypeError),
        (torch.zeros(1, 4, dtype=torch.float64), TypeError),
        (torch.zeros(0, 4), ValueError),
        (torch.full((1, 4), torch.nan), ValueError),
        (torch.zeros(()), ValueError),
    ],
    ids=["tuple", "double", "empty", "nan", "scalar"],
)
def test_an_example_input_that_cannot_be_used_is_refused(example, error, make_small, tmp_path):
    with pytest.raises(error, match="example_input"):
        export_qcdq(make_small(), example, tmp_path / "model.onnx")


def test_a_shape_that_does_not_fit_names_the_layer(make_small, tmp_path):
    with pytest.raises(ExportError, match="export failed in 1"):
        export_qcdq(make_small(), torch.zeros(1, 5), tmp_path / "model.onnx", dynamo=False)


def test_a_failing_forward_pass_is_not_put_down_to_the_exporter(make_small, tmp_path):
    with pytest.raises(ExportError) as caught:
        export_qcdq(make_small(), torch.zeros(1, 5), tmp_path / "model.onnx", dynamo=True)
    assert "dynamo=False" not in str(caught.value)


@pytest.mark.parametrize("export", [export_qonnx, export_qcdq])
def test_a_scalar_output_is_refused(export, tmp_path):
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = qnn.QuantLinear(4, 2, bias=False)

        def forward(self, x):
            return self.layer(x).sum()

    with pytest.raises(ExportError, match="returns a scalar"):
        export(Sum(), EXAMPLE, tmp_path / "model.onnx", dynamo=False)


@pytest.mark.parametrize(
    "dynamo", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["torchscript", "dynamo"]
)
def test_a_layer_that_qonnx_does_not_know_is_refused_and_nothing_is_written(dynamo, tmp_path):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = qnn.QuantLSTM(4, 3, weight_bit_width=4)

        def forward(self, x):
            return self.lstm(x)[0]

    model, example = Recurrent(), torch.randn(2, 1, 4)
    model(example)
    with pytest.raises(ExportError, match="export failed"):
        export_qonnx(model.eval(), example, tmp_path / "model.onnx", dynamo=dynamo)
    assert list(tmp_path.iterdir()) == []


def test_a_shared_weight_quantizer_is_named_once(tmp_path):
    first = qnn.QuantLinear(4, 4, False, weight_quant=TargetPropInt8WeightPerTensorFloat)
    second = qnn.QuantLinear(4, 4, False, weight_quant=first.weight_quant)
    with pytest.raises(ExportError) as caught:
        export_qcdq(nn.Sequential(first, second).eval(), EXAMPLE, tmp_path / "model.onnx")
    assert str(caught.value).count("0.weight_quant") == 1


def test_autocast_and_inference_mode_around_an_export_change_nothing(make_small, tmp_path):
    model = make_small()
    with torch.autocast("cpu", torch.bfloat16):
        path = export_qcdq(model, EXAMPLE, tmp_path / "autocast.onnx", dynamo=False)
        assert verify_export(model, path, torch.randn(8, 4)).ok
    with torch.inference_mode():
        copied = copy.deepcopy(model)
        path = export_qcdq(copied, EXAMPLE, tmp_path / "inference.onnx", dynamo=False)
    assert verify_export(model, path, torch.randn(8, 4)).ok


class Twice(nn.Module):
    """Quantizers with equal scales on one tensor, one of them twice in a row."""

    def __init__(self):
        super().__init__()
        self.one = qnn.QuantIdentity(act_quant=Int8ActPerTensorFixedPoint)
        self.two = qnn.QuantIdentity(act_quant=Int8ActPerTensorFixedPoint)
        self.layer = qnn.QuantLinear(4, 4, bias=False)

    def forward(self, x):
        y = self.layer(self.two(self.two(self.one(x) + self.two(x))))
        return self.layer(self.one(y))


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("export", [export_qonnx, export_qcdq])
def test_equal_quantizers_on_one_tensor_are_not_merged(export, dynamo, tmp_path):
    model, example = Twice(), torch.randn(2, 4)
    for _ in range(2):
        model(example)
    model.eval()
    path = export(model, example, tmp_path / "model.onnx", dynamo=dynamo)
    calls = {(site.name, site.call) for site in sites_of(onnx.load(path))}
    assert calls >= {("one.act_quant", k) for k in range(2)}
    assert calls >= {("two.act_quant", k) for k in range(3)}
    assert verify_export(model, path, torch.randn(8, 4)).ok


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
def test_stock_quantizers_that_brevitas_refuses_or_gets_wrong_are_exported_exactly(
    dynamo, tmp_path
):
    model = nn.Sequential(
        qnn.QuantIdentity(act_quant=ShiftedUint8ActPerTensorFloat, collect_stats_steps=1),
        qnn.QuantConv2d(3, 4, 3, bias=False, weight_quant=SignedBinaryWeightPerTensorConst),
        nn.BatchNorm2d(4),
        qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst),
    )
    images = torch.randn(4, 3, 6, 6)
    for _ in range(2):
        model(images)
    path = export_qcdq(model.eval(), images[:1], tmp_path / "model.onnx", dynamo=dynamo)
    report = verify_export(model, path, images)
    assert report.ok, str(report)
