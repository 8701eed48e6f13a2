"""Verification finds every change, and excuses only what rounding explains."""

from __future__ import annotations

import brevitas.nn as qnn
import numpy as np
import onnx
import pytest
import torch
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8WeightPerTensorFixedPoint,
    SignedBinaryActPerTensorConst,
    SignedBinaryWeightPerTensorConst,
)
from torch import nn

from brevitas_ftprop.export import (
    VerificationError,
    export_qcdq,
    export_qonnx,
    verify_export,
)
from brevitas_ftprop.export.tags import QUANTIZER, sites_of
from brevitas_ftprop.export.verification.runners import LEVELS

pytestmark = pytest.mark.cover(1)


def test_an_exported_file_computes_what_the_model_does(exported, make_images):
    report = verify_export(exported.model, exported.path, make_images(8))
    assert report.ok, str(report)
    assert report.first_difference is None
    assert report.unbounded == []
    assert [output.level for output in report.outputs] == (
        ["disabled"] if exported.format == "qonnx" else list(LEVELS)
    )
    assert all(output.images == 8 for output in report.outputs)
    for quantizer in report.quantizers:
        assert quantizer.compared > 0
        assert (quantizer.adversarial > 0) == (quantizer.kind == "activation")
    report.raise_if_different()


def test_the_table_lists_every_quantizer(exported, make_images):
    report = verify_export(exported.model, exported.path, make_images(2))
    for quantizer in report.quantizers:
        assert quantizer.name in str(report)
    assert str(report).endswith("no differences")


@pytest.fixture
def tamper(exported, tmp_path):
    """Change one initializer of a copy of the file."""

    def change(name: str, array_of):
        graph = onnx.load(exported.path)
        tensor = next(t for t in graph.graph.initializer if t.name == name)
        changed = array_of(onnx.numpy_helper.to_array(tensor).copy())
        tensor.CopyFrom(onnx.numpy_helper.from_array(changed, name))
        path = tmp_path / "tampered.onnx"
        onnx.save(graph, path)
        return path

    return change


def constants_of(path, quantizer: str) -> list[tuple[str, int, str, np.ndarray]]:
    """Constants of a quantizer that no other node uses: operator, input position, name, value."""
    graph = onnx.load(path).graph
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    uses = [name for node in graph.node for name in node.input]
    return [
        (node.op_type, position, name, arrays[name])
        for node in graph.node
        if any(m.key == QUANTIZER and m.value == quantizer for m in node.metadata_props)
        for position, name in enumerate(node.input)
        if name in arrays and uses.count(name) == 1
    ]


def one_more(array: np.ndarray) -> np.ndarray:
    array.flat[0] += 1
    return array


def test_one_changed_weight_is_found_and_named(exported, tamper, make_images):
    for layer in ("conv1", "conv2", "head.1", "head.3"):
        quantizer = f"{layer}.weight_quant"
        *_, name, _ = max(constants_of(exported.path, quantizer), key=lambda c: c[3].size)

        def flipped(array):
            index = np.abs(array).argmax()
            array.flat[index] = -array.flat[index]
            return array

        path = tamper(name, flipped)
        report = verify_export(exported.model, path, make_images(4))
        assert not report.ok
        assert report.first_difference == quantizer
        found = next(q for q in report.quantizers if q.name == quantizer)
        assert found.mismatches == 1
        with pytest.raises(VerificationError, match=f"first at {quantizer}"):
            report.raise_if_different()


def scales_of(path, quantizer: str):
    # The QuantizeLinear of a weight may change by one bit without changing an integer.
    operators = {"Quant", "BipolarQuant", "DequantizeLinear"}
    if quantizer.endswith("act_quant"):
        operators.add("QuantizeLinear")
    return [
        name
        for operator, position, name, value in constants_of(path, quantizer)
        if operator in operators and position == 1 and value.dtype == np.float32
    ]


@pytest.fixture
def separate(exported, tmp_path_factory):
    """The file with no constant shared between nodes, so that one can be changed alone."""
    graph = onnx.load(exported.path)
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in graph.graph.initializer}
    for index, node in enumerate(graph.graph.node):
        for position, name in enumerate(node.input):
            if name in arrays:
                node.input[position] = f"{name}.{index}.{position}"
                graph.graph.initializer.append(
                    onnx.numpy_helper.from_array(arrays[name], node.input[position])
                )
    kept = [t for t in graph.graph.initializer if t.name not in arrays]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(kept)
    path = tmp_path_factory.mktemp("separate") / "model.onnx"
    onnx.save(graph, path)
    return exported._replace(path=path)


def changed(path, tmp_path, name: str, change):
    graph = onnx.load(path)
    tensor = next(t for t in graph.graph.initializer if t.name == name)
    value = change(onnx.numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(onnx.numpy_helper.from_array(value, name))
    target = tmp_path / "changed.onnx"
    onnx.save(graph, target)
    return target


def test_one_changed_scale_is_found_and_named(separate, tmp_path, make_images):
    for quantizer in ("image.act_quant", "act1.act_quant", "conv2.weight_quant"):
        scales = scales_of(separate.path, quantizer)
        assert scales
        for name in scales:
            path = changed(separate.path, tmp_path, name, lambda a: np.nextafter(a, np.float32(9)))
            report = verify_export(separate.model, path, make_images(4))
            assert report.first_difference == quantizer, (name, str(report))


def test_one_changed_threshold_is_found_and_named(separate, tmp_path, make_images):
    """Sign units hold their threshold as a constant; for others the bounds are changed."""
    for quantizer in ("act1.act_quant", "act2.act_quant", "head.2.act_quant"):
        constants = constants_of(separate.path, quantizer)
        candidates = [
            (operator, name)
            for operator, position, name, value in constants
            if (operator, position) in {("GreaterOrEqual", 1), ("Clip", 2)}
        ]
        if separate.format == "qonnx":
            # These nodes hold no thresholds; test_verify_attacks changes a MultiThreshold's.
            assert {operator for operator, *_ in constants} <= {"Quant", "BipolarQuant"}
        else:
            assert candidates
        for operator, name in candidates:
            path = changed(
                separate.path,
                tmp_path,
                name,
                (lambda a: a - a.dtype.type(1))
                if operator == "Clip"
                else (lambda a: np.nextafter(a, np.float32(9))),
            )
            report = verify_export(separate.model, path, make_images(4))
            assert report.first_difference == quantizer, (operator, str(report))


def test_a_changed_bias_is_found_at_the_quantizer_behind_it(separate, tmp_path, make_images):
    graph = onnx.load(separate.path).graph
    node = next(n for n in graph.node if n.op_type == "Conv" and len(n.input) == 3)
    path = changed(separate.path, tmp_path, node.input[2], lambda a: a + np.float32(1))
    report = verify_export(separate.model, path, make_images(4))
    assert report.first_difference == "act1.act_quant"


def test_a_changed_bias_of_the_last_layer_is_found_at_the_output(separate, tmp_path, make_images):
    graph = onnx.load(separate.path).graph
    node = next(n for n in reversed(graph.node) if n.op_type in ("Gemm", "Add"))
    path = changed(separate.path, tmp_path, node.input[-1], lambda a: a + np.float32(1e-3))
    report = verify_export(separate.model, path, make_images(4))
    assert report.first_difference == "output"
    assert not any(quantizer.mismatches for quantizer in report.quantizers)


def test_a_retrained_model_differs_from_its_old_file(exported, make_images):
    parameter = exported.model.conv1.bias
    original = parameter.detach().clone()
    with torch.no_grad():
        parameter += 1
    try:
        report = verify_export(exported.model, exported.path, make_images(2))
    finally:
        with torch.no_grad():
            parameter.copy_(original)
    assert report.first_difference == "act1.act_quant"


class TiedLayer(nn.Module):
    """Sums of ±0.1 that are zero in exact arithmetic, next to a sign: nothing but ties."""

    def __init__(self, weight_quant) -> None:
        super().__init__()
        self.image = qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst)
        self.conv = qnn.QuantConv2d(64, 16, 3, padding=1, bias=False, weight_quant=weight_quant)
        self.act = qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst)
        self.head = qnn.QuantConv2d(16, 4, 1, bias=False, weight_quant=weight_quant)

    def forward(self, x):
        return self.head(self.act(self.conv(self.image(x)))).mean((2, 3))


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    torch.manual_seed(0)
    model = TiedLayer(SignedBinaryWeightPerTensorConst).eval()
    with torch.no_grad():
        model.conv.weight.copy_(torch.randn_like(model.conv.weight))
        model(torch.zeros(1, 64, 8, 8))
    path = tmp_path_factory.mktemp("tied") / "model.onnx"
    return model, export_qonnx(model, torch.zeros(1, 64, 8, 8), path, dynamo=False)


def test_mathematical_ties_are_excused_counted_and_listed(tied):
    model, path = tied
    report = verify_export(model, path, torch.randn(4, 64, 8, 8))
    assert report.ok, str(report)
    act = next(q for q in report.quantizers if q.name == "act.act_quant")
    assert act.excused > 0
    assert act.at_risk >= act.excused
    assert len(act.listed) == min(act.excused, 100)
    for unit in act.listed:
        assert abs(unit.z) <= unit.bound < 577 * 2**-24 * 57.7
        assert {unit.expected, unit.found} == {-1, 1}
        assert len(unit.index) == 4
        assert unit.index[0] < 4


def test_power_of_two_scales_leave_nothing_to_excuse(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(
        qnn.QuantIdentity(act_quant=Int8ActPerTensorFixedPoint),
        qnn.QuantConv2d(8, 16, 3, bias=False, weight_quant=Int8WeightPerTensorFixedPoint),
        qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst),
        qnn.QuantConv2d(16, 4, 3, bias=False, weight_quant=Int8WeightPerTensorFixedPoint),
    )
    for _ in range(3):
        model(torch.randn(4, 8, 8, 8))
    model.eval()
    path = export_qonnx(model, torch.zeros(2, 8, 8, 8), tmp_path / "model.onnx", dynamo=False)
    report = verify_export(
        model, path, torch.cat([torch.zeros(2, 8, 8, 8), torch.randn(6, 8, 8, 8)])
    )
    assert report.ok
    assert report.excused == 0
    assert all(quantizer.at_risk == 0 for quantizer in report.quantizers)


def test_the_model_is_as_it_was_after_a_verification(exported, make_images):
    model = exported.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    model.norm.eval()
    verify_export(model, exported.path, make_images(2))
    assert model.training
    assert not model.norm.training
    model.eval()
    assert all(not module._forward_hooks for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_pre_activation_that_is_not_finite_is_named_and_hooks_are_removed(exported, make_images):
    weight = exported.model.norm.weight
    original = weight.detach().clone()
    with torch.no_grad():
        weight[0] = torch.inf
    try:
        with pytest.raises(VerificationError, match=r"input of shared\.act_quant is not finite"):
            verify_export(exported.model, exported.path, make_images(2))
    finally:
        with torch.no_grad():
            weight.copy_(original)
    assert all(not module._forward_hooks for module in exported.model.modules())


@pytest.mark.parametrize(
    ("batch", "error", "reason"),
    [
        (torch.zeros(3, 3, 8, 8), ValueError, "multiple of 2"),
        (torch.zeros(2, 3, 8, 9), ValueError, r"takes \(N, 3, 8, 8\)"),
        (torch.zeros(2, 3, 8), ValueError, r"takes \(N, 3, 8, 8\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.float64), TypeError, "float32"),
        (torch.full((2, 3, 8, 8), torch.inf), ValueError, "not finite"),
        (np.zeros((2, 3, 8, 8), np.float32), TypeError, "tensor"),
    ],
    ids=["count", "size", "rank", "dtype", "infinite", "numpy"],
)
def test_a_batch_that_does_not_fit_is_refused(exported, batch, error, reason):
    with pytest.raises(error, match=reason):
        verify_export(exported.model, exported.path, batch)


def test_a_missing_file_is_refused(exported, make_images, tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        verify_export(exported.model, tmp_path / "missing.onnx", make_images(2))


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[: len(b) // 2], lambda b: b"not onnx", lambda b: b"", lambda b: b[:-7] + b"x" * 7],
    ids=["cut", "text", "empty", "end"],
)
def test_a_damaged_file_is_refused(exported, make_images, tmp_path, damage):
    path = tmp_path / "damaged.onnx"
    path.write_bytes(damage(exported.path.read_bytes()))
    with pytest.raises(VerificationError, match="damaged"):
        verify_export(exported.model, path, make_images(2))


def test_a_file_of_another_exporter_is_refused(exported, make_images, tmp_path):
    graph = onnx.load(exported.path)
    for node in graph.graph.node:
        del node.metadata_props[:]
    onnx.save(graph, tmp_path / "untagged.onnx")
    with pytest.raises(VerificationError, match="names no quantizers"):
        verify_export(exported.model, tmp_path / "untagged.onnx", make_images(2))


def test_a_file_of_another_architecture_is_refused(make_small, tmp_path):
    path = export_qcdq(make_small(), torch.zeros(1, 4), tmp_path / "model.onnx", dynamo=False)
    longer = nn.Sequential(*make_small(), qnn.QuantIdentity()).eval()
    shorter = nn.Sequential(*list(make_small())[:2]).eval()
    wider = nn.Sequential(*make_small())
    wider[1] = qnn.QuantLinear(4, 9, bias=False)
    wider[3] = qnn.QuantLinear(9, 3, bias=True)
    for other in (longer, shorter, wider.eval()):
        with pytest.raises(VerificationError, match="another architecture"):
            verify_export(other, path, torch.zeros(1, 4))


@pytest.mark.parametrize("export", [export_qonnx, export_qcdq])
def test_a_model_that_quantizes_weights_only_is_verified(export, tmp_path):
    model = nn.Sequential(
        qnn.QuantLinear(4, 3, bias=False, weight_bit_width=4), nn.ReLU(), nn.Linear(3, 2)
    ).eval()
    path = export(model, torch.zeros(2, 4), tmp_path / "model.onnx", dynamo=False)
    report = verify_export(model, path, torch.randn(6, 4))
    assert report.ok, str(report)
    assert [quantizer.kind for quantizer in report.quantizers] == ["weight"]
    with torch.no_grad():
        model[0].weight.neg_()
    assert verify_export(model, path, torch.randn(6, 4)).first_difference == "0.weight_quant"


def test_float64_as_default_dtype_changes_nothing(exported, make_images):
    batch = make_images(2)
    torch.set_default_dtype(torch.float64)
    try:
        report = verify_export(exported.model, exported.path, batch)
    finally:
        torch.set_default_dtype(torch.float32)
    assert report.ok, str(report)


def test_a_file_without_an_input_shape_is_refused(exported, make_images, tmp_path):
    graph = onnx.load(exported.path)
    del graph.graph.input[0].type.tensor_type.shape.dim[:]
    onnx.save(graph, tmp_path / "shapeless.onnx")
    with pytest.raises(VerificationError, match="damaged"):
        verify_export(exported.model, tmp_path / "shapeless.onnx", make_images(2))


def test_sites_are_found_again_after_a_round_trip(exported):
    graph = onnx.load(exported.path)
    again = onnx.load_from_string(graph.SerializeToString())
    assert sites_of(graph) == sites_of(again)
