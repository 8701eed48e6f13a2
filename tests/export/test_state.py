"""An export, failed or not, leaves no trace in the model or in Brevitas."""

from __future__ import annotations

import brevitas.nn as qnn
import pytest
import torch
from brevitas import config
from brevitas.export.onnx.standard.qcdq.handler import StdQCDQCastONNXWeightQuantProxyHandler
from torch import nn

from brevitas_ftprop.export import ExportError, export_qcdq, export_qonnx, verify_export
from brevitas_ftprop.export.state import export_state


def snapshot(model: nn.Module):
    """Everything that an export could leave behind, in a comparable form."""
    flags = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, bool | int | float | str | type(None)):
                flags[name, key] = value
            elif isinstance(value, dict):
                flags[name, key] = [(k, id(v)) for k, v in value.items()]
            else:
                flags[name, key] = id(value)
    values = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = {name: p.requires_grad for name, p in model.named_parameters()}
    return flags, values, gradients


def assert_same(before, after):
    assert before[0] == after[0]
    assert before[1].keys() == after[1].keys()
    for name, value in before[1].items():
        assert torch.equal(value, after[1][name]), name
    assert before[2] == after[2]


class Untraceable(nn.Module):
    """Fails in the middle of tracing, after Brevitas has changed the model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.broken = True

    def forward(self, x):
        x = self.model(x)
        if self.broken and self.model[0].act_quant.export_mode:
            raise RuntimeError("cannot be traced")
        return x


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("export", [export_qonnx, export_qcdq])
@pytest.mark.cover(1)
def test_an_export_succeeds_after_one_that_failed_and_the_model_is_bit_identical(
    export, dynamo, make_small, tmp_path
):
    model = Untraceable(make_small()).train()
    model.model[1].weight.requires_grad_(False)
    example = torch.randn(2, 4)
    model(example)
    before = snapshot(model)
    with pytest.raises(ExportError, match="cannot be traced"):
        export(model, example, tmp_path / "model.onnx", dynamo=dynamo)
    assert list(tmp_path.iterdir()) == []
    assert_same(before, snapshot(model))
    assert config._ONGOING_EXPORT is None

    model.broken = False
    path = export(model, example, tmp_path / "model.onnx", dynamo=dynamo)
    model.broken = True
    assert_same(before, snapshot(model))
    model.broken = False
    assert verify_export(model, path, torch.randn(8, 4)).ok


def test_outputs_and_gradients_are_the_same_before_and_after_an_export(make_small, tmp_path):
    model, batch = make_small().train(), torch.randn(6, 4)

    def gradients():
        model.zero_grad()
        output = model(batch)
        output.square().sum().backward()
        return [
            output.detach(),
            *(p.grad.clone() for p in model.parameters() if p.grad is not None),
        ]

    gradients()
    model.eval()
    expected = gradients()
    export_qcdq(model, batch[:1], tmp_path / "model.onnx", dynamo=False)
    for one, other in zip(expected, gradients(), strict=True):
        assert torch.equal(one, other)


def wreck(model: nn.Module) -> None:
    """What stock exports leave behind, and more."""
    with torch.no_grad():
        model[1].weight.clamp_(-0.01, 0.01)
    proxy = model[1].weight_quant
    proxy.cache_inference_quant_weight = True
    proxy._cached_weight = object()
    proxy.skip_create_quant_tensor = True
    proxy.export_handler = nn.Identity()
    proxy._export_mode = True
    model.train()
    model._brevitas_return_quant_tensor_state = {}
    model[0].register_forward_hook(lambda *arguments: None)
    config._ONGOING_EXPORT = "other"
    StdQCDQCastONNXWeightQuantProxyHandler._export_q_node = True
    raise KeyError("amid")


def test_in_place_clipping_and_caches_are_undone(make_small):
    model = make_small()
    before = snapshot(model)
    with pytest.raises(KeyError, match="amid"), export_state(model):
        wreck(model)
    assert_same(before, snapshot(model))
    assert config._ONGOING_EXPORT is None
    assert StdQCDQCastONNXWeightQuantProxyHandler._export_q_node is False


def test_hooks_registered_before_can_still_be_removed_after(make_small):
    model, seen = make_small(), []
    handle = model.register_forward_hook(lambda *arguments: seen.append(1))
    with export_state(model):
        model(torch.zeros(1, 4))
    model(torch.zeros(1, 4))
    assert len(seen) == 2
    handle.remove()
    model(torch.zeros(1, 4))
    assert len(seen) == 2


def test_the_layer_that_cannot_be_exported_is_named(tmp_path):
    model = nn.Sequential(
        qnn.QuantIdentity(return_quant_tensor=True),
        qnn.QuantIdentity(bit_width=16),
    )
    with pytest.raises(ExportError, match=r"1\.act_quant: QCDQ holds integers of up to 8 bits"):
        export_qcdq(model.eval(), torch.zeros(1, 4), tmp_path / "model.onnx")
