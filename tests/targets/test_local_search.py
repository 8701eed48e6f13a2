"""Local search against the enumeration of all targets of layers that are small enough."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from brevitas_ftprop import get_rule
from brevitas_ftprop.targets import get_setter


class Layer:
    """Σ_j |g_j|·ℓ(t_j·z_j) of a linear layer above, by hand."""

    def __init__(self, units: int, seed: int, scale: float = 1.0):
        torch.manual_seed(seed)
        self.weight = torch.randn(5, units).double()
        self.bias, self.grad = torch.randn(5).double(), torch.randn(3, 5).double()
        self.h = scale * torch.randn(3, units).sign().double()
        self.calls = 0

    def losses(self, h: Tensor) -> Tensor:
        self.calls += 1
        z, rule = h @ self.weight.T + self.bias, get_rule("soft_hinge")
        return (self.grad.abs() * rule.loss(-self.grad.sign() * z)).sum(1)

    @property
    def gradient(self) -> Tensor:
        h = self.h.clone().requires_grad_()
        return torch.autograd.grad(self.losses(h).sum(), h)[0]


def choose(layer: Layer, spec: str, grad: Tensor | None = None):
    generator = torch.Generator().manual_seed(7)
    grad = layer.gradient if grad is None else grad
    layer.calls = 0
    return get_setter(spec).choose(layer.h, grad, layer, generator)


@settings(max_examples=15, deadline=None)
@given(units=st.integers(1, 6), seed=st.integers(0, 10**6), scale=st.sampled_from([0.25, 1.0]))
def test_with_enough_budget_it_finds_the_best_of_all_targets(units, seed, scale):
    layer = Layer(units, seed, scale)
    # With a quarter of these, one layer in a hundred is missed.
    found = choose(layer, "local_search(candidates=256, iterations=6)")
    every = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=units))).double() * scale
    losses = torch.stack([layer.losses(each.expand(3, -1)) for each in every])
    assert torch.allclose(layer.losses(found.target * scale), losses.amin(0))
    assert torch.equal(found.weight, layer.gradient.abs())


def test_it_never_ends_above_the_gradients_sign_and_asks_as_often_as_its_budget_says():
    layer = Layer(40, 3)
    found = choose(layer, "local_search(candidates=5, iterations=3)")
    assert layer.calls == 2 + 15
    start = layer.losses(-layer.gradient.sign())
    assert (layer.losses(found.target) <= torch.minimum(start, layer.losses(layer.h))).all()


class Linear:
    """A loss above whose change by a flip is known: −2·a_i·h_i."""

    def __init__(self):
        torch.manual_seed(0)
        self.slope, self.h = torch.randn(4, 6).double(), 0.5 * torch.randn(4, 6).sign().double()

    def losses(self, h: Tensor) -> Tensor:
        return (self.slope * h).sum(1)


def test_without_a_gradient_targets_and_weights_estimate_the_gradient_of_the_loss_above():
    layer, generator = Linear(), torch.Generator().manual_seed(7)
    setter = get_setter("local_search(candidates=10000)")
    found = setter.choose(layer.h, torch.zeros_like(layer.h), layer, generator)
    assert torch.allclose(found.followed, layer.slope, atol=0.1)


@pytest.mark.parametrize("spec", ["local_search(candidates=0)", "local_search(iterations=0)"])
def test_without_a_budget_it_is_the_default(spec):
    assert get_setter(spec).is_default
    assert not get_setter("local_search(candidates=1)").is_default
