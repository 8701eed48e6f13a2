"""Networks with a part that has no gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from brevitas_ftprop.search import BlackBox, search_targets
from tests.search.conftest import sign


def table(x: torch.Tensor) -> torch.Tensor:
    """By way of NumPy, where nothing can be traced: the parity of each pair."""
    pairs = x.numpy().reshape(len(x), -1, 2)
    return torch.from_numpy(np.sign(pairs[..., 0] * pairs[..., 1])).to(x.dtype)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), sign(), BlackBox(table), nn.Linear(4, 2))


def test_forward_is_the_function_and_nothing_passes_backward():
    model, x = network(), torch.randn(6, 3)
    h = model[1](model[0](x))
    assert torch.equal(model[2](h), table(h.detach()))
    model(x).sum().backward()
    assert not model[0].weight.grad.any()
    assert model[3].weight.grad.any()


def test_an_identity_is_a_black_box_too():
    x = torch.ones(2, 2, requires_grad=True)
    BlackBox(lambda x: x)(2 * x).sum().backward()
    assert not x.grad.any()


def test_local_search_gives_the_layers_below_targets_that_lower_the_loss():
    model = network()
    x, labels = torch.randn(64, 3), torch.randint(2, (64,))

    def loss():
        return nn.functional.cross_entropy(model(x), labels)

    with search_targets(model, "local_search(candidates=32)") as search:
        loss().backward()
        assert model[0].weight.grad.any()
        report = search.measure(loss, step=0.05)
    layer = report.layers["1.act_quant"]
    assert search.left == {}
    assert layer.fall > 0
    assert layer.default_fall == 0


def test_a_network_learns_around_it_what_it_cannot_learn_above_it_alone():
    x = torch.randn(128, 3, generator=torch.Generator().manual_seed(2))
    labels = (x[:, 0] * x[:, 1] > 0).long()
    accuracy = {}
    for setter in ("gradient_sign", "local_search(candidates=16)"):
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        with search_targets(model, setter):
            for _ in range(100):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), labels).backward()
                optimizer.step()
        accuracy[setter] = float((model(x).argmax(1) == labels).float().mean())
    assert accuracy["local_search(candidates=16)"] > accuracy["gradient_sign"] + 0.1


@pytest.mark.parametrize(
    ("function", "error", "sentence"),
    [
        (lambda x: x.sum().item(), TypeError, "must give a float tensor, not float"),
        (lambda x: x > 0, TypeError, "must give a float tensor, not torch.bool"),
        (lambda x: x.sum(0), ValueError, "a row for each of the 4 that it gets"),
    ],
)
def test_a_function_of_another_kind_is_refused_when_it_is_called(function, error, sentence):
    with pytest.raises(error, match=sentence):
        BlackBox(function)(torch.ones(4, 3))


def test_rows_that_change_between_calls_are_refused():
    widths = iter((2, 3))
    box = BlackBox(lambda x: x.new_ones(len(x), next(widths)))
    box(torch.ones(4, 3))
    with pytest.raises(ValueError, match="must not change between calls"):
        box(torch.ones(4, 3))
    with pytest.raises(TypeError, match="expected a function of a tensor, not 3"):
        BlackBox(3)


def test_setters_that_need_a_gradient_name_the_black_box():
    model, x = network(), torch.randn(6, 3)
    with search_targets(model, "uniform") as search:
        model(x).square().sum().backward()
    assert search.report().layers["1.act_quant"].differing == 0
    assert not model[0].weight.grad.any()
