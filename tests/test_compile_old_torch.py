"""Where torch is too old to compile quantizers they run uncompiled, and that is said."""

from __future__ import annotations

import pytest
import torch
from brevitas.nn import QuantIdentity
from torch import nn

from brevitas_ftprop import proxy
from brevitas_ftprop.kernels.backends import compiled
from brevitas_ftprop.ops import binary_sign
from brevitas_ftprop.quant import TargetPropSignedBinaryActPerTensorConst


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(proxy, "COMPILABLE", False)
    torch._dynamo.reset()
    act = QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst)
    yield nn.Sequential(nn.Conv2d(3, 3, 3), act, nn.Conv2d(3, 2, 3))
    torch._dynamo.reset()


def gradient(forward, model):
    images = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)
    model.zero_grad()
    forward(images).square().sum().backward()
    return model[0].weight.grad.clone()


def test_a_compiled_model_trains_as_uncompiled_and_a_warning_says_what_is_needed(model):
    expected = gradient(model, model)
    with pytest.warns(UserWarning, match=r"needs torch 2\.1[12]; in \S+ they run uncompiled"):
        actual = gradient(torch.compile(model, backend="aot_eager"), model)
    assert torch.equal(actual, expected)


def test_one_graph_for_the_whole_model_is_refused_by_name(model):
    whole = torch.compile(model, fullgraph=True, backend="aot_eager")
    with pytest.raises(torch._dynamo.exc.Unsupported, match="quantizers_needs_a_newer_torch"):
        whole(torch.rand(2, 3, 8, 8))


def test_the_compiled_backend_says_what_it_needs(monkeypatch):
    monkeypatch.setattr(compiled, "COMPILABLE", False)
    x, one = torch.randn(3), torch.tensor(1.0)
    with pytest.raises(ValueError, match=r"backend=compiled .*: compiling needs torch 2\.11, and"):
        binary_sign(x, one, "hinge", "grad", backend="compiled")
