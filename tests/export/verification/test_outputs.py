"""The model says what a file's output is: name, type, shape and every value."""

from __future__ import annotations

import brevitas.nn as qnn
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from brevitas_ftprop import quant
from brevitas_ftprop.export import VerificationError, export_qcdq, export_qonnx, verify_export
from brevitas_ftprop.export.verification.assumed import assumed
from brevitas_ftprop.export.verification.outputs import beyond_rounding
from brevitas_ftprop.export.verification.rounding import Bounded, exactly

EXPORTS = {"qonnx": export_qonnx, "qcdq": export_qcdq}
WEIGHTS = {
    "weight_quant": quant.TargetPropInt8WeightPerTensorFixedPoint,
    "weight_bit_width": 4,
    "bias": False,
}


def identity() -> nn.Module:
    return qnn.QuantIdentity(quant.TargetPropInt8ActPerTensorFixedPoint)


def network(*head: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    layers = (identity(), qnn.QuantLinear(6, 4, **WEIGHTS), nn.BatchNorm1d(4), identity(), *head)
    net = nn.Sequential(*layers)
    for _ in range(3):
        net(torch.randn(64, 6))
    return net.eval()


class Scaled(nn.Module):
    def __init__(self, factor: float | Tensor) -> None:
        super().__init__()
        self.factor = nn.Buffer(torch.as_tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


HEADS = {"a quantizer": (), "a softmax": (nn.Softmax(1),), "logits": (qnn.QuantLinear(4, 3),)}


@pytest.fixture(scope="module", params=[(f, h) for f in EXPORTS for h in HEADS], ids=" of ".join)
def exported(request, tmp_path_factory):
    format_, head = request.param
    model, x = network(*HEADS[head]), torch.randn(8, 6)
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    return model, EXPORTS[format_](model, x[:4], path, dynamo=False), x


def output_of(graph) -> tuple[str, list[int]]:
    (output,) = graph.output
    return output.name, [dim.dim_value for dim in output.type.tensor_type.shape.dim]


def set_output(graph, name: str, shape: list[int], element_type: int = TensorProto.FLOAT) -> None:
    entry = helper.make_tensor_value_info(name, element_type, shape)
    graph.output[0].CopyFrom(entry)
    kept = [info for info in graph.value_info if info.name != name]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def append(graph, operator: str, *inputs: str, **attributes) -> list[int]:
    """A node behind the output, which keeps its name."""
    name, shape = output_of(graph)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = ["last" if n == name else n for n in names]
    graph.node.append(helper.make_node(operator, ["last", *inputs], [name], **attributes))
    return shape


def constant(graph, name: str, value) -> str:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def negate(graph):
    append(graph, "Neg")


def one_value_is_nan(graph):
    values = np.zeros(output_of(graph)[1][1], np.float32)
    values[1] = np.nan
    append(graph, "Add", constant(graph, "nan", values))


def in_another_order(graph):
    order = np.arange(output_of(graph)[1][1])[::-1].copy()
    append(graph, "Gather", constant(graph, "order", order), axis=1)


def without_the_last_column(graph):
    batch, width = output_of(graph)[1]
    append(graph, "Gather", constant(graph, "columns", np.arange(width - 1)), axis=1)
    set_output(graph, output_of(graph)[0], [batch, width - 1])


def with_another_dimension(graph):
    shape = append(graph, "Unsqueeze", constant(graph, "axes", np.array([2])))
    set_output(graph, output_of(graph)[0], [*shape, 1])


def in_double_precision(graph):
    shape = append(graph, "Cast", to=TensorProto.DOUBLE)
    set_output(graph, output_of(graph)[0], shape, TensorProto.DOUBLE)


def in_integers(graph):
    shape = append(graph, "Cast", to=TensorProto.INT32)
    set_output(graph, output_of(graph)[0], shape, TensorProto.INT32)


def under_another_name(graph):
    name, shape = output_of(graph)
    graph.node.append(helper.make_node("Identity", [name], ["scores"]))
    set_output(graph, "scores", shape)


CHANGES = [
    negate,
    one_value_is_nan,
    in_another_order,
    without_the_last_column,
    with_another_dimension,
    in_double_precision,
    in_integers,
    under_another_name,
]


def test_the_file_itself_verifies(exported):
    verify_export(*exported).raise_if_different()


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.cover(1)
def test_another_output_is_a_difference_whatever_gives_it(exported, change, tmp_path):
    model, path, x = exported
    graph = onnx.load(path)
    change(graph.graph)
    onnx.save(graph, tmp_path / "changed.onnx")
    report = verify_export(model, tmp_path / "changed.onnx", x)
    assert report.first_difference == "output", str(report)
    assert not any(quantizer.mismatches for quantizer in report.quantizers)


@pytest.mark.cover(1)
def test_every_tensor_of_a_file_but_its_output_is_another(exported, tmp_path):
    model, path, x = exported
    graph = onnx.load(path)
    name, shape = output_of(graph.graph)
    for other in [n for node in graph.graph.node for n in node.output if n != name]:
        changed = onnx.ModelProto.FromString(graph.SerializeToString())
        set_output(changed.graph, other, shape)
        onnx.save(changed, tmp_path / "changed.onnx")
        try:
            assert not verify_export(model, tmp_path / "changed.onnx", x).ok, other
        except VerificationError:
            continue  # Not float32, or a part of a quantizer.


def test_a_renamed_input_is_told(exported, tmp_path):
    model, path, x = exported
    graph = onnx.load(path)
    name = graph.graph.input[0].name
    for node in graph.graph.node:
        node.input[:] = ["pixels" if n == name else n for n in node.input]
    graph.graph.input[0].name = "pixels"
    onnx.save(graph, tmp_path / "changed.onnx")
    report = verify_export(model, tmp_path / "changed.onnx", x)
    assert report.interface == [
        f"the input is 'pixels' float32 (4, 6), not {name!r} float32 (4, 6)"
    ]
    assert report.interface[0] in str(report)
    assert report.as_dict()["interface"] == report.interface


class TwoHeads(nn.Module):
    """Two quantizers that are alike, of which the second is the output."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.first, self.second = identity(), identity(), identity()
        self.one, self.other = (qnn.QuantLinear(6, 6, **WEIGHTS) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.other(self.first(self.one(self.image(x)))))


@pytest.mark.parametrize("export", [export_qonnx, export_qcdq])
def test_the_result_of_another_quantizer_of_the_same_kind_is_told(export, tmp_path):
    torch.manual_seed(0)
    model = TwoHeads()
    model(torch.randn(64, 6))
    path = export(model.eval(), torch.randn(4, 6), tmp_path / "model.onnx", dynamo=False)
    x = torch.randn(8, 6)
    assert verify_export(model, path, x).ok
    graph = onnx.load(path)
    name, _ = output_of(graph.graph)
    final = next(node for node in graph.graph.node if name in node.output)
    first = next(node for node in graph.graph.node if is_result_of(node, "first.act_quant"))
    assert first.op_type == final.op_type
    # Both results stay in use, so that both quantizers are whole.
    final.output[0] = "second"
    zero = constant(graph.graph, "zero", np.float32(0))
    graph.graph.node.append(helper.make_node("Mul", ["second", zero], ["nothing"]))
    graph.graph.node.append(helper.make_node("Add", [first.output[0], "nothing"], [name]))
    onnx.save(graph, tmp_path / "changed.onnx")
    assert verify_export(model, tmp_path / "changed.onnx", x).first_difference == "output"


def is_result_of(node, quantizer: str) -> bool:
    """Whether a node is the last of a quantizer."""
    tags = {entry.value for entry in node.metadata_props}
    return quantizer in tags and node.op_type in ("Quant", "DequantizeLinear")


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("export", [export_qonnx, export_qcdq])
@pytest.mark.cover(1)
def test_a_quantizer_as_output_keeps_its_excuses(export, dynamo, tmp_path):
    torch.manual_seed(0)
    binary = {"weight_quant": quant.TargetPropSignedBinaryWeightPerTensorConst, "bias": False}
    sign = quant.TargetPropSignedBinaryActPerTensorConst
    model = nn.Sequential(
        qnn.QuantIdentity(sign), qnn.QuantConv2d(64, 16, 3, **binary), qnn.QuantIdentity(sign)
    ).eval()
    x = torch.randn(4, 64, 8, 8)
    path = export(model, x[:2], tmp_path / "model.onnx", dynamo=dynamo)
    report = verify_export(model, path, x)
    assert report.ok, str(report)
    assert report.quantizers[-1].at_risk > 0


@pytest.mark.parametrize("export", [export_qonnx, export_qcdq])
@pytest.mark.parametrize(
    "head",
    [
        (nn.Softmax(1), Scaled(1e-7)),
        (Scaled(1e-8), nn.Tanh()),
        (nn.Sigmoid(), qnn.QuantLinear(4, 3, **WEIGHTS), Scaled(1e-9)),
        (nn.Softmax(1), Scaled(torch.tensor([1e3, 1e-7, 1e-7, 1e-7]))),
        (nn.GELU(), Scaled(1e-7)),
    ],
    ids=["softmax", "tanh", "sigmoid", "columns of other sizes", "gelu"],
)
@pytest.mark.cover(1)
def test_outputs_are_compared_by_their_own_size(head, export, tmp_path):
    model, x = network(*head), torch.randn(8, 6)
    path = export(model, x[:4], tmp_path / "model.onnx", dynamo=False)
    report = verify_export(model, path, x)
    assert report.ok, str(report)
    assert report.unbounded
    graph = onnx.load(path)
    width = output_of(graph.graph)[1][1]
    sign = np.ones(width, np.float32)
    sign[1] = -1
    append(graph.graph, "Mul", constant(graph.graph, "sign", sign))
    onnx.save(graph, tmp_path / "changed.onnx")
    report = verify_export(model, tmp_path / "changed.onnx", x)
    assert report.first_difference == "output"
    with torch.no_grad():
        changed = int((model(x)[:, 1] != 0).sum())  # A zero stays one, whatever its sign.
    assert report.outputs[0].mismatches == changed >= len(x) - 1


@pytest.mark.parametrize("export", [export_qonnx, export_qcdq])
@pytest.mark.parametrize(
    "head",
    [nn.Sigmoid(), nn.Tanh(), nn.Softmax(1), nn.LogSoftmax(1), nn.GELU(), nn.SiLU(), nn.Softplus()],
    ids=lambda head: type(head).__name__,
)
@pytest.mark.parametrize("size", [1.0, 30.0])
@pytest.mark.cover(1)
def test_runtimes_may_round_the_ends_of_such_operators(head, size, export, tmp_path):
    """ONNX Runtime's sigmoid is off by all of a small result."""
    model, x = network(Scaled(size), head), torch.cat([torch.randn(12, 6), -torch.ones(4, 6)])
    path = export(model, x[:4], tmp_path / "model.onnx", dynamo=False)
    report = verify_export(model, path, x)
    assert report.ok, str(report)


def test_sizes_are_those_of_each_image():
    expected = torch.tensor([[1e3, 2e3], [1e-8, 2e-8]])
    assert not beyond_rounding(expected * (1 + 1e-6), expected, None).any()
    found = torch.tensor([[1e3, 2e3], [-1e-8, 2e-8]])
    assert beyond_rounding(found, expected, None).tolist() == [[False, False], [True, False]]


def test_infinite_outputs_are_equal_or_differ():
    expected = torch.tensor([[-torch.inf, 1.0], [torch.nan, 1.0]])
    assert beyond_rounding(expected, expected, None).tolist() == [[False, False], [True, False]]
    assert beyond_rounding(-expected, expected, None)[0].all()


def test_an_error_goes_through_an_operator_without_a_bound():
    node = helper.make_node("Softplus", ["x"], ["y"])
    model = helper.make_model(helper.make_graph([node], "one", [], []))
    x = torch.tensor([[-20.0, 0.0, 20.0]], dtype=torch.float64)
    certain, vague = (
        assumed(model, node, [x]).error for x in (exactly(x), Bounded(x, torch.full_like(x, 0.1)))
    )
    slope = torch.sigmoid(x)
    assert bool((vague - certain >= 0.1 * slope).all())
    assert bool((vague - certain <= 0.12 * slope).all())
