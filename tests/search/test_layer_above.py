"""The layer above, computed again: against the model itself, and against formulas by hand."""

from __future__ import annotations

import pytest
import torch
import torchvision
from brevitas.graph.quantize import preprocess_for_quantize, quantize
from brevitas.nn import QuantIdentity
from torch import Tensor, nn
from torch.nn import functional

from brevitas_ftprop import get_rule
from brevitas_ftprop.search import search_targets
from brevitas_ftprop.targets import SETTERS, Targets, TargetSetter, register_setter
from tests.search.conftest import images, sign

pytestmark = pytest.mark.heavy


class Asked:
    """What a setter was asked, layer by layer from the top."""

    def __init__(self, model: nn.Module, loss):
        asked = []

        @register_setter
        class Ask(TargetSetter):
            name = "ask"

            def choose(self, h, grad, above, generator):
                asked.append((h, grad, above))
                return Targets(-grad.sign(), grad.abs())

        try:
            with search_targets(model, "ask") as search:
                # Quantizers of more levels are looked at as well.
                search.served = set(search._proxies)
                self.loss = loss()
                self.loss.backward()
        finally:
            del SETTERS["ask"]
        self.layers, self.left = asked, search.left


def test_it_is_found_in_every_model_but_behind_a_truncation(named_model):
    name, model = named_model
    asked = Asked(model, lambda: functional.cross_entropy(model(images(name)), torch.arange(3)))
    more_levels = "it has more than two levels"
    left = {name: why for name, why in asked.left.items() if not why.startswith(more_levels)}
    truncated = {"layer4.1.relu_out.act_quant": "neither a quantizer nor a loss was seen behind it"}
    assert left == (truncated if name == "resnet18_4w4a" else {})
    assert asked.layers


def test_it_is_found_in_a_model_of_torchvision_that_brevitas_quantized():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=4)
    model = quantize(preprocess_for_quantize(model.eval())).train()
    x = torch.rand(2, 3, 32, 32)
    asked = Asked(model, lambda: functional.cross_entropy(model(x), torch.arange(2)))
    quantizers = [each for each in model.modules() if isinstance(each, QuantIdentity)]
    assert len(asked.layers) > len(quantizers) / 2
    assert all(why.startswith("it has more than two levels") for why in asked.left.values())


@pytest.mark.parametrize("rule", ["soft_hinge", "hinge", "saturated_ste", "sigmoid"])
def test_its_loss_is_the_weighted_layer_loss_of_the_next_units_worked_by_hand(rule):
    torch.manual_seed(0)
    first, second = nn.Linear(5, 7).double(), nn.Linear(7, 6).double()
    norm, top = nn.BatchNorm1d(6).double(), nn.Linear(6, 2).double()
    scale, x = 0.25, torch.randn(9, 5).double()
    quantizer = sign(rule=rule, scaling_init=scale)
    model = nn.Sequential(first, sign(), second, norm, quantizer, top)
    grads = []

    def loss() -> Tensor:
        out = model[:5](x)
        out.register_hook(grads.append)
        return top(out).square().sum()

    asked = Asked(model, loss)
    assert quantizer.act_quant.scale().item() == scale
    h, _, above = asked.layers[1]
    other = torch.where(torch.rand(h.shape) < 0.3, -h, h)
    the_rule = get_rule(rule)
    before = second(h)
    mean, variance = before.mean(0), before.var(0, unbiased=False)
    z = ((second(other) - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias) / scale
    g = grads[0]
    target = -g.sign()
    if the_rule.even:
        unit = -g * (the_rule.loss(z) - the_rule.loss(torch.zeros_like(z)))
    else:
        unit = g.abs() * (the_rule.loss(target * z) - the_rule.loss(torch.zeros_like(z)))
    assert torch.allclose(above.losses(other), (scale**2 * unit).sum(1), rtol=1e-9)


def test_at_the_top_it_is_the_loss_itself_row_by_row():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), sign(), nn.Linear(7, 4)).double()
    x, labels = torch.randn(6, 5).double(), torch.arange(6) % 4
    weight = torch.tensor([1.0, 2.0, 0.5, 3.0]).double()
    asked = Asked(model, lambda: functional.cross_entropy(model(x), labels, weight) / 3 + 1)
    h, _, above = asked.layers[0]
    other = -h
    logits = model[2](other)
    each = functional.cross_entropy(logits, labels, weight, reduction="none")
    expected = each / weight[labels].sum() / 3
    # A constant of the loss is shared by the rows.
    assert torch.allclose(above.losses(other) - 1 / 6, expected)
    assert above.losses(h).sum().item() == pytest.approx(asked.loss.item())


@pytest.mark.parametrize(
    "loss",
    [
        lambda out, y: functional.mse_loss(out, y),
        lambda out, y: functional.smooth_l1_loss(out, y, reduction="sum"),
        lambda out, y: functional.binary_cross_entropy_with_logits(out, y.sigmoid()),
        lambda out, y: (out - y).abs().mean(),
        lambda out, y: (out * y).sum() / 7 - out.mean(),
        lambda out, y: functional.cross_entropy(out, y.argmax(1), label_smoothing=0.1),
        lambda out, y: functional.multi_margin_loss(out, y.argmax(1)),
        lambda out, y: functional.soft_margin_loss(out, y.sign()),
        lambda out, y: functional.kl_div(out.log_softmax(1), y.softmax(1), reduction="batchmean"),
    ],
)
def test_losses_of_torch_are_summed_over_the_rows(loss):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), sign(), nn.Linear(7, 4)).double()
    x, y = torch.randn(6, 5).double(), torch.randn(6, 4).double()
    asked = Asked(model, lambda: loss(model(x), y))
    assert asked.left == {}
    (h, _, above), other = asked.layers[0], -asked.layers[0][0]
    with torch.no_grad():
        changed = h.clone()
        changed[2] = other[2]
        expected = loss(model[2](changed), y) - loss(model[2](h), y)
    assert (above.losses(other) - above.losses(h))[2].item() == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("last", "operator"),
    [
        (lambda loss: loss.sqrt(), "aten.sqrt"),
        (lambda loss: loss * loss, "aten.mul"),
        (lambda loss: 2 / loss, "aten.reciprocal"),
        (lambda loss: loss / (1 + loss), "aten.div"),
    ],
)
def test_a_loss_that_is_no_sum_over_rows_is_left_by_name(last, operator):
    model = nn.Sequential(nn.Linear(5, 7), sign(), nn.Linear(7, 4))
    x = torch.randn(6, 5)
    asked = Asked(model, lambda: last(model(x).square().mean()))
    assert asked.left == {
        "1.act_quant": f"the loss passes {operator}, and is no sum over the batch's rows"
    }


def test_what_is_changed_through_a_view_is_left_by_name():
    first, second, top = nn.Linear(5, 7), nn.Linear(7, 4), nn.Linear(4, 1)
    lower, upper = sign(), sign()

    def forward(x: Tensor) -> Tensor:
        z = second(lower(first(x)))
        z[:, 0] += 3
        return top(upper(z))

    model = nn.Module()
    model.layers, model.forward = nn.ModuleList([first, second, top, lower, upper]), forward
    asked = Asked(model, lambda: model(torch.randn(6, 5)).square().sum())
    assert asked.left == {
        "layers.3.act_quant": "what was recorded behind it does not give again what it gave"
    }


class Block(nn.Module):
    """A residual block with a sum in place, dropout and a ReLU in place on one branch."""

    def __init__(self):
        super().__init__()
        self.enter, self.inner, self.leave = sign(), sign(), sign()
        self.one, self.two = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.norm, self.relu = nn.BatchNorm2d(3), nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        out = self.two(self.inner(self.norm(self.one(h))))
        out += self.drop(self.relu(2 * h + 0.3))
        return self.leave(out)


def keep_gradient(tensor: Tensor, grads: dict[str, Tensor], name: str) -> None:
    tensor.register_hook(lambda grad: grads.__setitem__(name, grad))


def test_a_fork_reaches_both_branches_and_in_place_sums_and_masks_are_as_they_were():
    torch.manual_seed(0)
    block = Block().double()
    x, weight = torch.randn(4, 3, 6, 6).double(), torch.randn(4, 3, 6, 6).double()
    grads = {}
    for name in ("inner", "leave"):
        proxy = getattr(block, name).act_quant
        proxy.register_forward_hook(
            lambda proxy, args, out, name=name: keep_gradient(out.value, grads, name)
        )
    state, kept = torch.get_rng_state(), {}
    block.two.register_forward_hook(lambda module, args, out: kept.update(two=out.detach().clone()))
    asked = Asked(block, lambda: (block(x.requires_grad_()) * weight).sum())
    assert asked.left == {}
    h, _, above = asked.layers[2]
    assert len(above.readers) == 2

    other = torch.where(torch.rand(h.shape) < 0.3, -h, h)
    torch.set_rng_state(state)
    mask = functional.dropout(torch.ones_like(h), 0.4)
    before = block.one(h)
    statistics = before.mean((0, 2, 3)).detach(), before.var((0, 2, 3), unbiased=False).detach()
    block.norm.eval()
    block.norm.running_mean, block.norm.running_var = statistics
    inner = block.norm(block.one(other))
    leave = kept["two"] + mask * (2 * other + 0.3).relu()

    def soft_hinge(z: Tensor, g: Tensor) -> Tensor:
        rule, zero = get_rule("soft_hinge"), torch.zeros_like(z)
        unit = g.abs() * (rule.loss(-g.sign() * z) - rule.loss(zero))
        return unit.flatten(1).sum(1)

    expected = soft_hinge(inner, grads["inner"]) + soft_hinge(leave, grads["leave"])
    assert torch.allclose(above.losses(other), expected, rtol=1e-6)


def test_a_tensor_that_is_overwritten_before_the_backward_pass_is_named():
    class Overwritten(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.act = nn.Linear(4, 4), nn.Linear(4, 2), sign()

        def forward(self, x):
            h, offset = self.act(self.one(x)), torch.ones(4)
            y = self.two(h + offset)
            offset.zero_()
            return y

    model = Overwritten()
    asked = Asked(model, lambda: model(torch.randn(3, 4)).square().sum())
    assert asked.left == {"act.act_quant": "a tensor between the layers is overwritten in place"}
