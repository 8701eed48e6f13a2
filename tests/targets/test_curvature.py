"""``curvature`` against Hessians by autograd."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from brevitas_ftprop.targets import Curvature, get_setter
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

POOLS = {
    "none": nn.Identity,
    "max": lambda: nn.MaxPool2d(2),
    "overlapping max": lambda: nn.MaxPool2d(3, 2, padding=1),
}


def hessian_diagonal(above, h, grad):
    """What it answers, and what autograd makes of the loss above."""

    def total(flat):
        return above.losses(flat.view(h.shape)).sum()

    with torch.enable_grad():
        hessian = torch.autograd.functional.hessian(total, h.flatten())
    return above.curvature(h), hessian.diagonal().view(h.shape)


def assert_second_order(model, x, loss=cross_entropy):
    answers, left = ask(model, x, loss, hessian_diagonal)
    assert answers
    assert not left
    for found, expected in answers:
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    return answers


@pytest.mark.parametrize("rule", SMOOTH)
def test_it_is_the_diagonal_of_the_hessian_for_a_linear_layer(rule):
    torch.manual_seed(0)
    model, x = network(nn.Linear(5, 4), (6, 5), rule=rule)
    _, (curvature, _) = assert_second_order(model, x)
    assert (curvature != 0).all()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 999),
    groups=st.sampled_from([1, 2]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
    norm=st.sampled_from(["none", "train", "eval"]),
    pool=st.sampled_from(sorted(POOLS)),
    relu=st.booleans(),
)
def test_it_is_the_diagonal_of_the_hessian_for_convolutions(
    seed, groups, kernel, stride, padding, dilation, bias, norm, pool, relu
):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(2, 4, kernel, stride, padding, dilation=dilation, groups=groups, bias=bias)]
    if norm != "none":
        layers.append(nn.BatchNorm2d(4).train(norm == "train"))
        nn.init.uniform_(layers[-1].weight)
    if relu:
        layers.append(nn.LeakyReLU(0.3))
    model, x = network(nn.Sequential(*layers, POOLS[pool]()), (1, 2, 7, 8))
    assert_second_order(model, x)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 6, 3, groups=3),
        nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1),
        nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 5)),
        nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 4, 3, padding=1), nn.BatchNorm1d(4)),
        nn.Sequential(nn.Flatten(2), nn.MaxPool1d(2), nn.AvgPool1d(2), nn.Linear(4, 3)),
        nn.Sequential(nn.AvgPool2d(2, padding=1, count_include_pad=False), nn.Conv2d(3, 2, 2)),
        nn.AvgPool2d(3, 1, padding=1, count_include_pad=False),
        nn.AvgPool2d(3, 2, padding=1),
        nn.AdaptiveAvgPool2d((3, 1)),
        nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Conv2d(3, 2, 2)),
        nn.Sequential(nn.ZeroPad2d((1, 0, 2, 1)), nn.Conv2d(3, 2, 2), nn.ReLU(), nn.Hardtanh()),
    ],
    ids=[
        "depthwise",
        "transposed",
        "pool below",
        "conv1d",
        "batched product",
        "average below",
        "average",
        "padded average",
        "adaptive average",
        "adaptive average below",
        "pad and clip",
    ],
)
def test_layers_of_other_kinds_are_passed(layer):
    torch.manual_seed(1)
    model, x = network(layer, (2, 3, 4, 4))
    assert_second_order(model, x)


def test_ways_to_several_quantizers_add_up():
    torch.manual_seed(2)
    fork = Fork(nn.Conv2d(2, 3, 3, padding=1).double(), sign(), sign("logistic"))
    model = nn.Sequential(sign(), fork, nn.Flatten(), nn.Linear(80, 3, dtype=torch.float64))
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert_second_order(model, x)


class Arithmetic(nn.Module):
    def forward(self, h):
        other = torch.arange(1.0, 6.0, dtype=h.dtype)
        return (3 - h * 2.0 / other).sub(other, alpha=2) + torch.sub(other, h, alpha=0.5).detach()


def test_arithmetic_with_constants_is_passed():
    torch.manual_seed(3)
    model, x = network(Arithmetic(), (3, 5))
    assert_second_order(model, x)


@pytest.mark.parametrize("rule", PIECEWISE)
def test_it_is_zero_where_the_loss_is_in_straight_pieces(rule):
    torch.manual_seed(4)
    model, x = network(nn.Linear(5, 4), (6, 5), rule=rule)

    def choose(above, h, grad):
        return above.curvature(h), Curvature().choose(h, grad, above, None), grad

    (_, (curvature, targets, grad)), _ = ask(model, x, cross_entropy, choose)
    assert not curvature.any()
    assert torch.equal(targets.target, -grad.sign())
    assert torch.equal(targets.weight, grad.abs())


@pytest.mark.parametrize(
    "loss",
    [
        cross_entropy,
        lambda logits: logits.square().mean(),
        lambda logits: logits.sum(),
        lambda logits: (logits.softmax(1) ** 2).sum(1).mean(),
        lambda logits: nn.functional.cross_entropy(logits, torch.zeros(6).long(), reduction="sum"),
    ],
    ids=["cross-entropy", "square", "linear", "softmax", "summed"],
)
@pytest.mark.parametrize("head", [nn.Linear(5, 4), nn.Identity()], ids=["linear", "none"])
def test_the_training_loss_is_differentiated_as_a_whole(head, loss):
    torch.manual_seed(5)
    model = nn.Sequential(sign(), Value(), head.double())
    x = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    assert_second_order(model, x, loss)


class Recurrent(nn.Module):
    """Steps in front of the batch, as torch's own operators have them."""

    def __init__(self, cell):
        super().__init__()
        self.cell, self.top = cell, nn.Linear(4, 2)

    def forward(self, h):
        return self.top(self.cell(h.view(len(h), 2, 3))[0][:, -1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.top = nn.MultiheadAttention(3, 1, batch_first=True), nn.Linear(3, 2)

    def forward(self, h):
        h = h.view(len(h), 2, 3)
        return self.top(self.attention(h, h, h)[0].mean(1))


@pytest.mark.parametrize(
    "tail",
    [
        Recurrent(nn.LSTM(3, 4, batch_first=True)),
        Recurrent(nn.GRU(3, 4, batch_first=True)),
        Attention(),
    ],
    ids=["lstm", "gru", "attention"],
)
# As many rows as there are steps, and another number.
@pytest.mark.parametrize("rows", [2, 5])
def test_the_loss_behind_a_tensor_that_has_no_batch_in_front_is_differentiated(tail, rows):
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(4, 6), sign(), Value(), tail).double()
    x = torch.randn(rows, 4, dtype=torch.float64)
    assert_second_order(model, x, lambda logits: logits.square().sum())


def test_target_and_weight_are_those_of_the_second_order_change():
    torch.manual_seed(6)
    model, x = network(nn.Linear(5, 4), (6, 5), rule="adaline")

    def choose(above, h, grad):
        change = -2 * h * grad + 2 * h.square() * above.curvature(h)
        return Curvature().choose(h, grad, above, None), change, h

    answers, _ = ask(model, x, cross_entropy, choose)
    for targets, change, h in answers:
        wanted = torch.where(change < 0, -h.sign(), h.sign())
        assert torch.equal(targets.target, wanted)
        torch.testing.assert_close(targets.weight, change.abs() / (2 * h.abs()))


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (Twice(), "aten.add"),
        (nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5)), "aten.addmm"),
        (nn.Sequential(nn.Linear(5, 5), nn.GELU()), "aten.gelu"),
        (nn.Sequential(nn.Linear(5, 5), nn.GroupNorm(1, 5)), "aten.native_group_norm"),
    ],
    ids=["ways that meet", "two products", "curved", "norm of a row"],
)
def test_what_it_cannot_pass_is_named_and_left_to_the_default(layer, named):
    torch.manual_seed(7)
    model, x = network(layer, (6, 5))
    with_default, parameters = model, list(model.parameters())
    with_setter = get_setter("curvature")
    answers, left = ask(
        with_default,
        x,
        cross_entropy,
        lambda above, h, grad: with_setter.choose(h, grad, above, None),
    )
    assert len(answers) == 1
    (reason,) = left.values()
    assert named in reason
    assert all(each.grad is not None for each in parameters)


def test_a_loss_without_a_second_derivative_in_torch_is_named_and_left_to_the_default():
    torch.manual_seed(8)
    model = nn.Sequential(nn.Linear(4, 5), sign(), Value(), nn.Linear(5, 3)).double()
    x, labels = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 3

    def loss(logits):
        return nn.functional.multi_margin_loss(logits, labels)

    _, left = ask(model, x, loss, lambda above, h, grad: above.curvature(h))
    assert left == {"1.act_quant": "torch has no second derivative of aten.multi_margin_loss"}
