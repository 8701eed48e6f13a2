"""Linear separability of the units' mini-batch problems."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from brevitas.nn import QuantIdentity
from torch import nn

from brevitas_ftprop.monitor import feasible_share
from brevitas_ftprop.monitor.feasibility import is_separable
from brevitas_ftprop.quant import TargetPropSignedBinaryActPerTensorConst

SIGN = TargetPropSignedBinaryActPerTensorConst
CORNERS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


@pytest.mark.parametrize("truth", range(16))
def test_of_the_functions_of_two_bits_all_but_xor_and_its_inverse_are_separable(truth):
    targets = torch.tensor([1 if truth >> bit & 1 else -1 for bit in range(4)])
    assert is_separable(CORNERS, targets) == (truth not in (0b0110, 0b1001))


def test_targets_of_a_linear_unit_are_separable_and_with_one_contradiction_not():
    x = torch.randn(60, 4)
    targets = torch.sign(x @ torch.randn(4) - 0.3)
    assert is_separable(x, targets)
    assert not is_separable(torch.cat([x, x[:1]]), torch.cat([targets, -targets[:1]]))


def network(targets):
    """Linear and sign, whose units' targets the loss sets to a column each."""
    targets = torch.tensor(targets, dtype=torch.float32).T
    model = nn.Sequential(
        nn.Linear(2, targets.shape[1]),
        nn.BatchNorm1d(targets.shape[1]),
        QuantIdentity(act_quant=SIGN),
    )
    return model, lambda: -(model(CORNERS) * targets).sum()


def test_the_share_is_that_of_the_units_with_feasible_targets():
    # and, xor, or, a xor with a row that has no target
    model, loss = network([[-1, -1, -1, 1], [-1, 1, 1, -1], [-1, 1, 1, 1], [-1, 1, 1, 0]])
    assert feasible_share(model, loss, {"2.act_quant": "0"}) == {"2.act_quant": 0.75}


def test_the_model_is_left_as_it_was():
    model, loss = network([[-1, -1, -1, 1]])
    state = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    feasible_share(model, loss, {"2.act_quant": "0"})
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert all(len(module._forward_hooks) == 0 for module in model.modules())
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolutions_problem_is_that_of_its_patches(groups):
    conv = nn.Conv2d(2, 4, 2, stride=2, padding=1, groups=groups)
    model, x = nn.Sequential(conv, QuantIdentity(act_quant=SIGN)), torch.randn(3, 2, 4, 4)
    wanted = torch.sign(conv(x)).detach()
    reached = feasible_share(model, lambda: -(model(x) * wanted).sum(), {"1.act_quant": "0"})
    assert reached == {"1.act_quant": 1.0}
    # the same image twice, with opposite targets
    twice, opposite = torch.cat([x, x]), torch.cat([wanted, -wanted])
    contradiction = {"1.act_quant": "0"}
    assert feasible_share(model, lambda: -(model(twice) * opposite).sum(), contradiction) == {
        "1.act_quant": 0.0
    }


def test_few_rows_are_an_upper_bound():
    model, loss = network([[-1, 1, 1, -1]])
    assert feasible_share(model, loss, {"2.act_quant": "0"}, rows=3) == {"2.act_quant": 1.0}


def test_wrong_pairs_are_refused_and_named():
    model, loss = network([[-1, -1, -1, 1]])
    with pytest.raises(ValueError, match="the model has no module '9'"):
        feasible_share(model, loss, {"2.act_quant": "9"})
    with pytest.raises(TypeError, match="1 is neither Linear nor Conv2d but BatchNorm1d"):
        feasible_share(model, loss, {"2.act_quant": "1"})
    with pytest.raises(ValueError, match="the loss does not use"):
        feasible_share(model, lambda: model[0](CORNERS).sum(), {"2.act_quant": "0"})
    pooled = nn.Sequential(nn.Conv2d(1, 2, 1), nn.MaxPool2d(2), QuantIdentity(act_quant=SIGN))
    with pytest.raises(ValueError, match="affine in each channel"):
        feasible_share(pooled, lambda: pooled(torch.ones(1, 1, 4, 4)).sum(), {"2.act_quant": "0"})
    padded = nn.Sequential(nn.Conv2d(1, 2, 3, padding="same"), QuantIdentity(act_quant=SIGN))
    with pytest.raises(TypeError, match="0 pads with"):
        feasible_share(padded, lambda: padded(torch.ones(1, 1, 4, 4)).sum(), {"1.act_quant": "0"})


def test_without_scipy_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match="pip install scipy"):
        is_separable(CORNERS, torch.tensor([1, -1, 1, -1]))
