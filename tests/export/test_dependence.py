"""A file has every quantizer that the output depends on, and need not have the others."""

from __future__ import annotations

from collections.abc import Callable

import brevitas.nn as qnn
import onnx
import pytest
import torch
from brevitas.quant import Int8ActPerTensorFixedPoint
from torch import Tensor, nn

from brevitas_ftprop.export import (
    ExportError,
    check_deployable,
    export_qcdq,
    export_qonnx,
    verify_export,
)
from brevitas_ftprop.export.dependence import INPUT, run_traced
from brevitas_ftprop.export.tags import sites_of

EXPORTS = [export_qonnx, export_qcdq]
EXPORTERS = pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
BATCH = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))


class Model(nn.Module):
    """Two activation quantizers and two layers, of which ``function`` makes an output."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function
        self.act, self.other = (qnn.QuantIdentity(Int8ActPerTensorFixedPoint) for _ in range(2))
        self.left, self.right = (
            qnn.QuantLinear(4, 4, bias=False, weight_bit_width=4) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.act, self.other, self.left, self.right)


def model_of(function: Callable[..., Tensor]) -> nn.Module:
    torch.manual_seed(0)
    model = Model(function)
    with torch.no_grad():
        model(BATCH)
    return model.eval()


def first_call_unused(x, act, other, left, right):
    act(left(other(x)))
    return right(act(x))


def last_call_unused(x, act, other, left, right):
    y = right(act(x))
    act(left(other(x)))
    return y


def middle_call_unused(x, act, other, left, right):
    y = left(act(x))
    act(right(x))
    return left(act(y)) + other(x)


def read_for_its_shape(x, act, other, left, right):
    return left(act(x)) + torch.zeros_like(right(other(x)))


UNUSED = {
    first_call_unused: {("act.act_quant", 1), ("right.weight_quant", 0)},
    last_call_unused: {("act.act_quant", 0), ("right.weight_quant", 0)},
    middle_call_unused: {
        ("act.act_quant", 0),
        ("act.act_quant", 2),
        ("left.weight_quant", 0),
        ("left.weight_quant", 1),
        ("other.act_quant", 0),
    },
    read_for_its_shape: {("act.act_quant", 0), ("left.weight_quant", 0)},
}


@EXPORTERS
@pytest.mark.parametrize("export", EXPORTS)
@pytest.mark.parametrize("function", UNUSED, ids=lambda function: function.__name__)
@pytest.mark.cover(1)
def test_calls_keep_their_numbers_where_others_go_unused(export, function, dynamo, tmp_path):
    model = model_of(function)
    path = export(model, BATCH[:1], tmp_path / "model.onnx", dynamo=dynamo)
    found = {(site.name, site.call) for site in sites_of(onnx.load(path))}
    # Calls on one weight may be merged.
    assert found <= UNUSED[function]
    assert {call for call in UNUSED[function] if "act_quant" in call[0]} <= found
    assert verify_export(model, path, BATCH).ok


def by_way_of_numpy(x, act, other, left, right):
    return left(act(torch.from_numpy(x.numpy())))


def a_factor_by_way_of_a_number(x, act, other, left, right):
    return left(act(x)) * float(other(x).max())


def always_the_same(x, act, other, left, right):
    return left(act(torch.ones(x.shape[0], 4)))


@pytest.mark.parametrize("export", EXPORTS)
@pytest.mark.parametrize("function", [by_way_of_numpy, always_the_same])
def test_an_output_that_is_a_constant_in_the_graph_is_refused(export, function, tmp_path):
    model = model_of(function)
    with pytest.raises(ExportError, match="output does not depend on its input"):
        export(model, BATCH[:1], tmp_path / "model.onnx", dynamo=False)
    assert not list(tmp_path.iterdir())
    (finding,) = check_deployable(model, BATCH[:1], dynamo=False).errors
    assert "does not depend on its input" in finding.message


@pytest.mark.parametrize("export", EXPORTS)
def test_a_quantizer_whose_result_became_a_number_is_refused_by_name(export, tmp_path):
    model = model_of(a_factor_by_way_of_a_number)
    with pytest.raises(ExportError, match=r"other\.act_quant quantizes what the output depends on"):
        export(model, BATCH[:1], tmp_path / "model.onnx", dynamo=False)
    assert not list(tmp_path.iterdir())


@EXPORTERS
@pytest.mark.parametrize("export", EXPORTS)
@pytest.mark.cover(1)
def test_a_recurrent_layer_that_the_exporter_drops_is_refused(export, dynamo, tmp_path):
    class Beside(nn.Module):
        """The output depends on the input by another way too."""

        def __init__(self) -> None:
            super().__init__()
            self.act, self.lstm = qnn.QuantIdentity(), qnn.QuantLSTM(4, 4)
            self.last = qnn.QuantLinear(4, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.lstm(self.act(x).transpose(0, 1))[0][-1] + self.act(x)[:, 0])

    model, example = Beside(), torch.randn(1, 2, 4)
    model(example)
    with pytest.raises(ExportError, match=r"export failed"):
        export(model.eval(), example, tmp_path / "model.onnx", dynamo=dynamo)
    assert not list(tmp_path.iterdir())
    target = "finn" if export is export_qonnx else "qcdq"
    assert not check_deployable(model, example, target, dynamo=dynamo).ok


def test_dependence_is_followed_through_views_and_changes_in_place():
    def in_place(x, act, other, left, right):
        y = torch.zeros(x.shape[0], 8)
        y[:, :4] = act(x)
        y[:, 4:].copy_(other(x)).mul_(2)
        right(x)
        return left(y.view(-1, 4)).view(-1, 8)

    _, needed = run_traced(model_of(in_place), BATCH)
    assert needed == {
        INPUT,
        ("act.act_quant", 0),
        ("other.act_quant", 0),
        ("left.weight_quant", 0),
    }
