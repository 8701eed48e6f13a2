"""First weights: from a run with another rule, a float network, and torchvision's names."""

from __future__ import annotations

import pytest

pytest.importorskip("jsonargparse", reason="needs the extra 'examples'")

import tiny_networks
import torch
import torchvision
from training import TrainingError
from training.checkpoint import last_checkpoint
from training.initial import load_initial
from training.network import build_network

from brevitas_ftprop.models import QuantResNet18


def test_a_run_starts_where_one_with_another_rule_ended(tiny, run, tmp_path):
    run(tiny.with_overrides(rule="stock"), "first")
    weights = tmp_path / "first" / "weights.pt"
    state = torch.load(weights)
    for file in (weights, last_checkpoint(tmp_path / "first" / "checkpoints")):
        network, _ = build_network(tiny.with_overrides(rule="soft_hinge"), 10)
        load_initial(network, file)
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    anew, there = (
        run(tiny.with_overrides(init_weights=given), f"second {given is None}")
        for given in (None, str(weights))
    )
    assert anew.initial_weights != there.initial_weights
    assert there.curve[0].train_loss < anew.curve[0].train_loss


def test_a_quantized_network_takes_the_weights_of_a_float_one(tmp_path):
    float_one, quantized = tiny_networks.float_of_stateful(), tiny_networks.stateful()
    torch.save(float_one.state_dict(), tmp_path / "float.pt")
    told = load_initial(quantized, tmp_path / "float.pt")
    assert told == f"first weights: 11 tensors of {tmp_path / 'float.pt'}"
    for index in (1, 5, 10):
        assert torch.equal(quantized[index].weight, float_one[index].weight)
    largest = float_one[1].weight.abs().max()
    assert torch.isclose(quantized[1].quant_weight().scale * 7, largest)


def test_torchvisions_names_fit_and_other_classes_start_anew(tmp_path):
    theirs, ours = torchvision.models.resnet18(), QuantResNet18(10)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pt")
    before = ours.fc.weight.clone()
    told = load_initial(ours, tmp_path / "theirs.pt")
    assert told.endswith("; fc.weight, fc.bias start anew, for other classes")
    assert torch.equal(ours.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)
    assert torch.equal(ours.fc.weight, before)


def test_what_does_not_fit_is_named_and_nothing_is_loaded(tmp_path):
    network = tiny_networks.stateful()
    state = dict(network.state_dict())
    del state["5.weight"]
    state["1.weight"] = torch.zeros(1, 3, 3, 3)
    torch.save(state, tmp_path / "other.pt")
    before = network[10].weight.clone()
    with pytest.raises(TrainingError, match=r"it has no 1\.weight, 5\.weight, or with another"):
        load_initial(network, tmp_path / "other.pt")
    assert torch.equal(network[10].weight, before)
