"""``exact_flip`` against flips made one by one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from brevitas_ftprop.search import search_targets
from brevitas_ftprop.targets import ExactFlip
from tests.targets.layers_above import (
    PIECEWISE,
    SMOOTH,
    Fork,
    Twice,
    Value,
    ask,
    cross_entropy,
    network,
    sign,
)

pytestmark = pytest.mark.heavy

MEMORY = 1 << 20


def brute_force(above, h, grad):
    """What it answers for some units, and what becomes of the loss above of one flip at a time."""
    units = torch.randperm(h.numel())[:40]
    before, changes = above.losses(h).sum(), []
    for unit in units:
        other = h.flatten().clone()
        other[unit] *= -1
        changes.append(above.losses(other.view(h.shape)).sum() - before)
    found = above.flip_changes(h, units, memory=MEMORY)
    return found, torch.stack(changes)


def assert_exact(model, x, loss=cross_entropy):
    answers, left = ask(model, x, loss, brute_force)
    assert answers
    assert not left
    for found, expected in answers:
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    return answers


@pytest.mark.parametrize("rule", SMOOTH + PIECEWISE)
def test_it_is_the_change_of_the_loss_above_by_each_flip(rule):
    torch.manual_seed(0)
    model, x = network(nn.Linear(5, 4), (6, 5), rule=rule)
    assert_exact(model, x)


POOLS = {
    "none": nn.Identity,
    "max": lambda: nn.MaxPool2d(2),
    "overlapping max": lambda: nn.MaxPool2d(3, 2, padding=1),
    "rounded up": lambda: nn.MaxPool2d(2, ceil_mode=True),
    "avg": lambda: nn.AvgPool2d(2),
    "overlapping avg": lambda: nn.AvgPool2d(3, 2, padding=1),
    "avg of what is inside": lambda: nn.AvgPool2d(3, 1, padding=1, count_include_pad=False),
    "global": lambda: nn.AdaptiveAvgPool2d(1),
}


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    groups=st.sampled_from([1, 2]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
    norm=st.sampled_from(["none", "train", "eval"]),
    relu=st.booleans(),
    pool=st.sampled_from(sorted(POOLS)),
    pool_first=st.booleans(),
)
def test_convolutions_and_what_stands_between_are_exact(
    seed, groups, kernel, stride, padding, dilation, bias, norm, relu, pool, pool_first
):
    torch.manual_seed(seed)
    size = (17, 14) if pool_first else (13, 10)
    layers = [nn.Conv2d(2, 4, kernel, stride, padding, dilation, groups=groups, bias=bias)]
    if norm != "none":
        layers.append(nn.BatchNorm2d(4).train(norm == "train"))
        nn.init.uniform_(layers[-1].weight)
    if relu:
        layers.append(nn.LeakyReLU(0.3))
    if pool == "global" and pool_first:
        pool_first = False
    layers.insert(0 if pool_first else len(layers), POOLS[pool]())
    model, x = network(nn.Sequential(*layers), (1, 2, *size))
    assert_exact(model, x)


@pytest.mark.parametrize("pool", [name for name in POOLS if "avg" in name or name == "global"])
def test_a_mean_takes_nothing_from_beside_the_map(pool):
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), POOLS[pool]())
    assert_exact(*network(layer, (1, 2, 7, 8)))


class Arithmetic(nn.Module):
    def forward(self, h):
        other = torch.arange(1.0, 1 + h[0].numel(), dtype=h.dtype).view(h.shape[1:])
        return (3 - h * 2.0 / other).sub(other, alpha=2).mul(torch.rand_like(h)) + other


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 6, 3, groups=3),
        nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 5)),
        nn.Sequential(nn.MaxPool2d(3, 1, padding=1), nn.Flatten(), nn.Linear(48, 5)),
        nn.Sequential(nn.MaxPool2d(3, 1), nn.Conv2d(3, 4, 2)),
        nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 4, 3, padding=1), nn.BatchNorm1d(4)),
        nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten(), nn.BatchNorm1d(36), nn.Tanh()),
        nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Conv2d(3, 2, 2), nn.Dropout(0.4)),
        nn.Sequential(Arithmetic(), nn.Conv2d(3, 4, 3), Arithmetic()),
        Arithmetic(),
        nn.Conv3d(3, 2, (1, 2, 2)),
    ],
    ids=[
        "depthwise",
        "pool below a product",
        "overlapping pool below a product",
        "overlapping pool below",
        "conv1d",
        "flattened",
        "adaptive",
        "arithmetic",
        "no product",
        "conv3d",
    ],
)
def test_layers_of_other_kinds_are_exact(layer):
    torch.manual_seed(1)
    shape = (2, 3, 2, 4, 3) if isinstance(layer, nn.Conv3d) else (2, 3, 4, 4)
    model, x = network(layer, shape)
    assert_exact(model, x)


def test_ways_to_several_quantizers_add_up():
    torch.manual_seed(2)
    fork = Fork(nn.Conv2d(2, 3, 3, padding=1).double(), sign(), sign("logistic"))
    model = nn.Sequential(sign(), fork, nn.Flatten(), nn.Linear(80, 3, dtype=torch.float64))
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert_exact(model, x)


LOSSES = {
    "cross-entropy": cross_entropy,
    "summed": lambda logits: nn.functional.cross_entropy(
        logits, torch.arange(len(logits)) % 3, reduction="sum"
    ),
    "weighted": lambda logits: nn.functional.cross_entropy(
        logits, torch.arange(len(logits)) % 3, torch.tensor([0.5, 1.0, 2.0, 1.0, 1.0]).double()
    ),
    "smoothed": lambda logits: nn.functional.cross_entropy(
        logits, torch.arange(len(logits)) % 3, label_smoothing=0.1
    ),
    "margin": lambda logits: nn.functional.multi_margin_loss(
        logits,
        torch.arange(len(logits)) % logits.shape[1],
        weight=torch.linspace(1, 2, logits.shape[1]).double(),
    ),
    "squared": lambda logits: nn.functional.mse_loss(logits, torch.ones_like(logits).cumsum(0)),
    "scaled": lambda logits: 3 * logits.square().sum(1).mean() + 1,
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize(
    "head",
    [
        nn.Linear(12, 5),
        nn.Sequential(
            nn.Unflatten(1, (3, 4)), nn.Conv1d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(10, 5)
        ),
        nn.Sequential(
            nn.Unflatten(1, (3, 2, 2)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5)
        ),
    ],
    ids=["linear", "two products", "pooled"],
)
def test_the_training_loss_is_exact(head, loss):
    torch.manual_seed(5)
    model = nn.Sequential(sign(scale=0.6), Value(), head.double())
    x = torch.randn(6, 12, dtype=torch.float64, requires_grad=True)
    assert_exact(model, x, loss)


def test_a_plain_layer_in_torch_agrees():
    torch.manual_seed(8)
    convolution, norm = nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.BatchNorm2d(3)
    layer = nn.Sequential(convolution, norm, nn.MaxPool2d(2, 1))
    model, x = network(layer, (2, 2, 6, 5), rule="logistic")
    weight, bias = convolution.weight.detach(), convolution.bias.detach()

    def unit_losses(h, grad):
        z = nn.functional.conv2d(h, weight, bias, stride=2, padding=1)
        z = (z - mean) / (variance + norm.eps).sqrt()
        z = nn.functional.max_pool2d(z, 2, 1) / 1.25
        # The gradient is that of ±1.25, and passes times the scale once more in units of z.
        return (grad.abs() * 1.25 * 1.25 * torch.log1p(torch.exp(z * grad.sign()))).sum()

    def by_hand(above, h, grad):
        followed = [call.followed for call, _ in above.readers]
        return above.flip_changes(h, torch.arange(h.numel()), memory=MEMORY), h, followed

    (_, (found, h, (grad,))), _ = ask(model, x, cross_entropy, by_hand)
    z = nn.functional.conv2d(h, weight, bias, stride=2, padding=1)
    mean, variance = (each.view(3, 1, 1) for each in (z.mean((0, 2, 3)), z.var((0, 2, 3), False)))
    expected = []
    for unit in range(h.numel()):
        other = h.clone()
        other.view(-1)[unit] *= -1
        expected.append(unit_losses(other, grad) - unit_losses(h, grad))
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", ["ste", "hinge"])
def test_the_targets_are_those_of_the_gradient_where_the_loss_is_straight(rule):
    torch.manual_seed(4)
    model, x = network(nn.Linear(5, 4), (6, 5), rule=rule)
    with torch.no_grad():
        # So that no flip crosses the hinge's kink.
        model[1][1].weight.mul_(0.01)
        model[1][1].bias.mul_(0.1)

    def choose(above, h, grad):
        return ExactFlip().choose(h, grad, above, None), grad

    (_, (targets, grad)), _ = ask(model, x, cross_entropy, choose)
    assert torch.equal(targets.target, -grad.sign())
    torch.testing.assert_close(targets.weight, grad.abs())


def test_only_the_share_with_the_largest_gradients_is_searched():
    torch.manual_seed(6)
    model, x = network(nn.Linear(10, 4), (6, 10))

    def choose(above, h, grad):
        units = torch.arange(h.numel())
        changes = above.flip_changes(h, units, memory=MEMORY).view(h.shape)
        return ExactFlip(share=0.25).choose(h, grad, above, None), changes, h, grad

    answers, _ = ask(model, x, cross_entropy, choose)
    for targets, changes, h, grad in answers:
        size = grad.abs()
        searched = size >= size.flatten().sort(descending=True).values[round(0.25 * h.numel()) - 1]
        wanted = torch.where(changes < 0, -h.sign(), h.sign())
        assert torch.equal(targets.target, torch.where(searched, wanted, -grad.sign()))
        weight = torch.where(searched, changes.abs() / (2 * h.abs()), size)
        torch.testing.assert_close(targets.weight, weight)


def test_without_a_share_nothing_is_searched():
    assert ExactFlip(share=0).is_default
    assert not ExactFlip(share=0.01).is_default


def test_chunks_change_nothing_and_too_little_memory_is_named_with_what_would_do():
    torch.manual_seed(7)
    model, x = network(nn.Conv2d(2, 3, 3), (2, 2, 6, 5))

    def by_memory(above, h, grad):
        units = torch.arange(h.numel())
        with pytest.raises(ValueError, match=r"exact_flip\(memory=1\) would do"):
            above.flip_changes(h, units, memory=10)
        return [above.flip_changes(h, units, memory=each) for each in (MEMORY, 12_000)]

    answers, _ = ask(model, x, cross_entropy, by_memory)
    for once, in_chunks in answers:
        torch.testing.assert_close(once, in_chunks)


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (Twice(), "meet at aten.add"),
        (nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5)), "aten.addmm"),
        (nn.Sequential(nn.Linear(5, 5), nn.GroupNorm(1, 5)), "aten.native_group_norm"),
    ],
    ids=["ways that meet", "two products", "norm of a row"],
)
def test_what_is_not_local_is_named_and_left_to_the_default(layer, named):
    torch.manual_seed(7)
    model, x = network(layer, (6, 5))
    with search_targets(model, "exact_flip") as search:
        cross_entropy(model(x)).backward()
    (reason,) = search.left.values()
    assert named in reason
    assert all(each.grad is not None for each in model.parameters())
