"""Groups of parameters, and the learning rate over time."""

from __future__ import annotations

import math

import pytest
import torch

pytest.importorskip("jsonargparse", reason="needs the extra 'examples'")

from training import Data, Optimizer, Recipe, Schedule, TrainingError
from training.network import build_network
from training.optimization import build_optimizer, lr_factor, parameter_groups


@pytest.fixture
def network():
    recipe = Recipe(model="convnet8", act="int4", data=Data(name="random"))
    return build_network(recipe, 10)[0]


def test_each_parameter_is_in_the_group_of_what_it_is(network):
    names = {parameter: name for name, parameter in network.named_parameters()}
    groups = {
        group: {names[parameter] for parameter in parameters}
        for group, parameters in parameter_groups(network).items()
    }
    assert set().union(*groups.values()) == set(names.values())
    assert groups["weights"] == {
        name for name in names.values() if name.endswith("weight") and "norm" not in name
    }
    assert groups["norms"] == {name for name in names.values() if "norm" in name}
    assert len(groups["biases"]) == 2
    assert all(name.endswith("bias") for name in groups["biases"])
    assert len(groups["quantizers"]) == 7
    assert all("scaling_impl" in name for name in groups["quantizers"])


def test_weight_decay_moves_the_weights_of_layers_only(network):
    optimizer = build_optimizer(
        network, Optimizer(name="sgd", lr=1.0, weight_decay=0.5, options={"momentum": 0.9})
    )
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    weights = set(parameter_groups(network)["weights"])
    for name, parameter in network.named_parameters():
        factor = 0.5 if parameter in weights else 1.0
        torch.testing.assert_close(parameter, before[name] * factor)


def test_a_group_can_have_its_own_decay(network):
    options = Optimizer(weight_decay=1.0, norm_weight_decay=2.0, quantizer_weight_decay=4.0)
    decay = {g["name"]: g["weight_decay"] for g in build_optimizer(network, options).param_groups}
    assert decay == {"weights": 1.0, "norms": 2.0, "biases": 0.0, "quantizers": 4.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Optimizer(name="adan"), "unknown optimizer 'adan'; valid are adadelta"),
        (Optimizer(options={"momentum": 0.9}), "momentum"),
    ],
)
def test_an_unknown_optimizer_or_option_is_told(network, options, message):
    with pytest.raises(TrainingError, match=message):
        build_optimizer(network, options)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (Schedule(), {0: 1, 9.9: 1}),
        (Schedule(name="step", milestones=[4, 6]), {0: 1, 3.99: 1, 4: 0.1, 6: 0.01}),
        (Schedule(name="step", every=4, gamma=0.5), {3.9: 1, 4: 0.5, 8: 0.25}),
        (Schedule(name="cosine"), {0: 1, 5: 0.5, 10: 0, 2.5: (1 + math.sqrt(0.5)) / 2}),
        (Schedule(name="cosine", warmup_epochs=2), {0: 0, 1: 0.5, 2: 1, 6: 0.5, 10: 0}),
        (Schedule(warmup_epochs=0.5), {0.25: 0.5, 0.5: 1}),
        (Schedule(name="cosine", warmup_epochs=10), {5: 0.5, 10: 0}),
    ],
)
def test_the_learning_rate_follows_its_schedule(schedule, factors):
    for epoch, factor in factors.items():
        assert lr_factor(schedule, 10, epoch) == pytest.approx(factor, abs=1e-12)
