"""Masks, arg-max and detached values between layers: computed again for other targets."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brevitas_ftprop.targets import get_setter
from tests.targets.layers_above import Value, ask, sign

MEMORY = 1 << 24


def leaking(z: Tensor) -> Tensor:
    return torch.where(z > 0, z, 0.1 * z)


def masked_without_gradients(z: Tensor) -> Tensor:
    with torch.no_grad():
        mask = (z > 0.2).to(z.dtype)
    return z * mask


def routed(z: Tensor) -> Tensor:
    expert = z[:, :2].argmax(1)
    experts = torch.stack([2 * z, z - 1], 1)
    return experts[torch.arange(len(z)), expert]


def gated_by_one_hot(z: Tensor) -> Tensor:
    return z * functional.one_hot(z.argmax(1), z.shape[1])


def gathered(z: Tensor) -> Tensor:
    return z.gather(1, z.max(1, keepdim=True).indices.expand(-1, 2) * 0 + z.topk(2).indices)


def normalized_by_detached_rows(z: Tensor) -> Tensor:
    return z / z.detach().norm(dim=1, keepdim=True)


def sorted_by_its_data(z: Tensor) -> Tensor:
    return z * z.data.sort(1).values.cumsum(1)


def moved_in_place(z: Tensor) -> Tensor:
    offset = torch.zeros_like(z)
    offset.add_(z.detach().abs())
    return z + offset


TAILS = [
    leaking,
    masked_without_gradients,
    routed,
    gated_by_one_hot,
    gathered,
    normalized_by_detached_rows,
    sorted_by_its_data,
    moved_in_place,
]


class Tail(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.linear, self.function = nn.Linear(5, 4), function

    def forward(self, h):
        return self.function(self.linear(h))


def network(function):
    torch.manual_seed(0)
    tail = Tail(function).double()
    return nn.Sequential(nn.Linear(3, 5).double(), sign(), Value(), tail), tail


def rows(out: Tensor) -> Tensor:
    return (out - 0.5).square().sum(1)


def total(out: Tensor) -> Tensor:
    return rows(out).sum()


@pytest.mark.parametrize("function", TAILS)
def test_the_loss_above_follows_what_is_chosen_by_the_units(function):
    model, tail = network(function)
    x = torch.randn(6, 3, dtype=torch.float64)
    (answer,), left = ask(model, x, total, lambda above, h, grad: (above.losses(-h), h))
    assert left == {}
    losses, h = answer
    assert torch.allclose(losses, rows(tail(-h)))


@pytest.mark.parametrize("function", TAILS)
def test_the_best_targets_are_found_by_local_search_as_by_trying_them_all(function):
    model, tail = network(function)
    x = torch.randn(4, 3, dtype=torch.float64)
    setter = get_setter("local_search(candidates=64, iterations=8)")

    def question(above, h, grad):
        chosen = setter.choose(h, grad, above, torch.Generator().manual_seed(0))
        return chosen.target * h.abs(), h

    ((found, h),), _ = ask(model, x, total, question)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * h.shape[1])
    best = torch.stack([rows(tail(each * h.abs())) for each in signs]).amin(0)
    assert torch.allclose(rows(tail(found)), best)


@pytest.mark.parametrize("function", TAILS)
def test_flips_one_by_one_are_exact_or_their_layer_is_left_by_name(function):
    model, tail = network(function)
    x = torch.randn(6, 3, dtype=torch.float64)

    def question(above, h, grad):
        return above.flip_changes(h, torch.arange(h.numel()), memory=MEMORY), h

    answers, left = ask(model, x, total, question)
    if left:
        assert "is not known" in left["1.act_quant"] or "mixes the rows" in left["1.act_quant"]
        return
    changes, h = answers[0]
    before = rows(tail(h))
    for unit in range(h.numel()):
        other = h.clone()
        other.view(-1)[unit] *= -1
        change = (rows(tail(other)) - before).sum()
        assert torch.allclose(changes[unit], change, atol=1e-12)
