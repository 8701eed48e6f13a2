"""Layers trained as problems of their own: against plain training, and against their formulas."""

from __future__ import annotations

import copy

import pytest
import torch
from brevitas.nn import QuantReLU
from brevitas.quant import Uint8ActPerTensorFloat
from torch import nn
from torch.nn import functional

from brevitas_ftprop import get_rule
from brevitas_ftprop.search import search_targets, train_layerwise
from tests.search.conftest import images, sign

pytestmark = pytest.mark.heavy


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), sign(), nn.Dropout(0.3), nn.Linear(8, 6), sign(),
        nn.Linear(6, 3),
    ).double()  # fmt: skip


def problem() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(20, 4, generator=generator).double(), torch.arange(20) % 3


def test_one_step_is_that_of_plain_training_bit_for_bit(named_model):
    name, model = named_model
    model = model.double()
    twin, x, labels = copy.deepcopy(model), images(name).double(), torch.arange(3)
    optimizers = [
        torch.optim.SGD(each.parameters(), lr=0.1, momentum=0.9) for each in (model, twin)
    ]

    torch.manual_seed(5)
    train_layerwise(model, lambda: functional.cross_entropy(model(x), labels), optimizers[0])
    ours = torch.rand(1)
    torch.manual_seed(5)
    functional.cross_entropy(twin(x), labels).backward()
    optimizers[1].step()
    assert torch.equal(ours, torch.rand(1))
    for (key, one), other in zip(
        model.state_dict().items(), twin.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), key


def test_a_second_step_is_that_of_each_layer_with_its_inputs_and_targets_held():
    model, (x, labels) = network(), problem()
    first, norm, enter, drop, second, leave, top = model
    twin = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    state = torch.get_rng_state()
    train_layerwise(
        model, lambda: functional.cross_entropy(model(x), labels), optimizer, inner_steps=2
    )

    torch.set_rng_state(state)
    first, norm, enter, drop, second, leave, top = twin
    h1 = enter(norm(first(x)))
    mask = drop(torch.ones_like(h1))
    h2 = leave(second(h1 * mask))
    loss = functional.cross_entropy(top(h2), labels)
    g1, g2 = torch.autograd.grad(loss, (h1, h2), retain_graph=True)
    loss.backward()
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.2)
    optimizer.step()
    statistics = norm.running_mean.clone()
    optimizer.zero_grad()
    rule = get_rule("soft_hinge")
    z1, z2 = norm(first(x)), second(h1.detach() * mask)
    total = functional.cross_entropy(top(h2.detach()), labels)
    for g, z in ((g1, z1), (g2, z2)):
        total = total + (g.abs() * rule.loss(-g.sign() * z)).sum()
    total.backward()
    optimizer.step()
    for (name, one), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12), name
    assert torch.equal(model[1].running_mean, statistics)
    assert int(model[1].num_batches_tracked) == 1


def test_lbfgs_solves_the_convex_problem_of_a_linear_layer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), sign(), nn.Linear(6, 3)).double()
    x, labels = problem()
    gradient = {}
    model[1].act_quant.register_forward_hook(
        lambda proxy, args, out: (
            out.value.register_hook(lambda g: gradient.setdefault("g", g)) and None
        )
    )
    layer = list(model[0].parameters())
    optimizer = torch.optim.LBFGS(
        layer, max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )
    train_layerwise(model, lambda: functional.cross_entropy(model(x), labels), optimizer)
    g, rule = gradient["g"], get_rule("soft_hinge")
    own = (g.abs() * rule.loss(-g.sign() * model[0](x))).sum()
    left = torch.autograd.grad(own, layer)
    assert max(float(each.abs().max()) for each in left) < 1e-5


def trained(setter: str) -> tuple[nn.Module, int]:
    """A model after two batches of three inner steps, and how many targets were chosen."""
    model, (x, labels) = network(), problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(1)
    with search_targets(model, setter) as search:
        for _ in range(2):
            train_layerwise(
                model, lambda: functional.cross_entropy(model(x), labels), optimizer, inner_steps=3
            )
    return model, sum(layer.chosen for layer in search.report().layers.values())


def test_it_follows_the_targets_of_a_search_whose_passes_are_the_first_ones_only():
    (plain, none), (searched, chosen) = trained("gradient_sign"), trained("uniform")
    assert not torch.equal(plain[0].weight, searched[0].weight)
    assert (none, chosen) == (0, 2 * 20 * (8 + 6))


def test_integer_layers_take_part():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 8),
        QuantReLU(act_quant=Uint8ActPerTensorFloat, max_val=1.0, scaling_impl_type="parameter"),
        nn.Linear(8, 3),
    )
    x, labels = torch.randn(12, 4), torch.arange(12) % 3
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [p.clone() for p in model.parameters()]
    for kind in (optimizer, torch.optim.LBFGS(model.parameters(), max_iter=3)):
        value = train_layerwise(
            model, lambda: functional.cross_entropy(model(x), labels), kind, inner_steps=2
        )
        assert value > 0
    assert not any(torch.equal(a, b) for a, b in zip(before[:2], model.parameters(), strict=False))


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (lambda model, x: torch.zeros((), requires_grad=True), "does not depend on the model's"),
        (lambda model, x: model(x).sum().detach(), "does not depend on the model's"),
        (lambda model, x: model(x).sum() * torch.nan, "the loss is nan, not a finite number"),
    ],
)
def test_a_bad_loss_is_refused_with_model_and_optimizer_as_before(loss, sentence):
    model, (x, _) = network(), problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=sentence):
        train_layerwise(model, lambda: loss(model, x), optimizer, inner_steps=2)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not optimizer.state


def test_other_bad_input_is_refused_in_one_sentence():
    model, (x, _) = network(), problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="inner_steps must be a positive integer, not 0"):
        train_layerwise(model, lambda: model(x).sum(), optimizer, inner_steps=0)
    plain = nn.Linear(4, 3)
    with pytest.raises(ValueError, match="Linear has no activation quantizers to cut it at"):
        train_layerwise(plain, lambda: plain(x).sum(), optimizer)

    order = [0]

    def changing():
        order[0] += 1
        return (model(x) if order[0] == 1 else model[6:](model[5](model[4](model[0](x))))).sum()

    with pytest.raises(ValueError, match="ran in another order than before"):
        train_layerwise(model, changing, optimizer, inner_steps=2)
