"""The graph of a float network computes what the network does, in one form, or says why not."""

from __future__ import annotations

import operator

import pytest
import torch
from torch import nn
from torch.nn import functional

from brevitas_ftprop.quantize.float_graph import float_graph
from tests.quantize.float_networks import NARROW, RELUS, Called, Residual, narrow, settled


def modules_called(graph_model):
    calls = [node.target for node in graph_model.graph.nodes if node.op == "call_module"]
    return [(name, graph_model.get_submodule(name)) for name in calls]


@pytest.mark.parametrize("name", [name for name in NARROW if name != "resnet18"])
def test_the_graph_of_a_torchvision_network_computes_the_same_and_leaves_the_network_alone(name):
    model, images = narrow(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    graph_model = float_graph(model, images)
    torch.testing.assert_close(graph_model(images), model(images), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    theirs = {tensor.data_ptr() for tensor in model.state_dict().values()}
    assert not theirs & {tensor.data_ptr() for tensor in graph_model.state_dict().values()}


@pytest.mark.parametrize("make", RELUS)
def test_every_spelling_of_a_relu_becomes_a_module_for_each_call(make):
    relu = make()
    graph_model = float_graph(nn.Sequential(relu, nn.Linear(4, 4), relu), torch.randn(9, 4))
    relus = [m for _, m in modules_called(graph_model) if isinstance(m, nn.ReLU | nn.Hardtanh)]
    assert len(relus) == len(set(relus)) == 2
    values = torch.linspace(-3, 9, 13)
    assert torch.equal(relus[0](values.clone()), relu(values.clone()))


@pytest.mark.parametrize("spelling", ["+", "+=", "add_", "torch.add"])
def test_every_spelling_of_a_sum_becomes_a_plain_one(spelling):
    model = Residual(nn.Linear(4, 4), nn.Identity(), spelling)
    calls = [n.target for n in float_graph(model, torch.randn(2, 4)).graph.nodes]
    assert operator.add in calls
    assert not {"add_", operator.iadd, torch.add} & set(calls)


def test_a_bias_before_a_batch_norm_becomes_part_of_it():
    images = torch.randn(4, 3, 5, 5)
    model = settled(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)), images
    )
    graph_model = float_graph(model, images)
    (_, conv), (_, norm), (_, last) = modules_called(graph_model)
    assert conv.bias is None
    assert last.bias is not None
    torch.testing.assert_close(norm.running_mean, model[1].running_mean - model[0].bias)


def test_a_bias_stays_where_something_else_reads_the_layer():
    images = torch.randn(4, 3, 5, 5)
    body = settled(
        nn.Sequential(nn.Conv2d(3, 3, 1), Residual(nn.BatchNorm2d(3), nn.ReLU(), "+")), images
    )
    assert dict(modules_called(float_graph(body, images)))["0"].bias is not None


def test_a_pool_that_changes_nothing_is_left_out():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(6), nn.AdaptiveAvgPool2d(1))
    names = [name for name, _ in modules_called(float_graph(model, torch.randn(1, 3, 8, 8)))]
    assert names == ["0", "2"]


def test_a_functional_dropout_still_drops_in_training():
    model = Called(lambda x: functional.dropout(x, 0.5))
    graph_model = float_graph(Evaluated(), torch.ones(1, 64)).train()
    assert (graph_model(torch.ones(1, 64)) == 0).any()
    assert torch.equal(graph_model.eval()(torch.ones(1, 64)), torch.ones(1, 64))
    # A dropout that evaluation does not switch off is no function of the input.
    with pytest.raises(ValueError, match="draw random numbers"):
        float_graph(model, torch.ones(1, 64))


class Evaluated(nn.Module):
    def forward(self, x):
        return functional.dropout(x, 0.5, training=self.training)


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Aliased(nn.Module):
    def forward(self, x):
        y = x * 1
        y += x
        return functional.relu(y - 1, inplace=True) + y


class Overwritten(nn.Module):
    """Reads again what a ReLU has overwritten."""

    def __init__(self):
        super().__init__()
        self.fc, self.relu = nn.Linear(4, 4), nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.fc(x)
        return self.relu(y) + y


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x + y


def test_in_place_operations_whose_values_nothing_reads_again_are_written_out_of_place():
    x = torch.randn(5, 4)
    torch.testing.assert_close(float_graph(Aliased(), x)(x), Aliased()(x.clone()))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Identity(), Branching()), r"cannot trace 1 \(Branching\)"),
        (Branching(), "the model's own forward"),
        (Overwritten(), "computes something else"),
        (TwoInputs(), "cannot take an input"),
        (Called(lambda x: (x, x)), "returns a tuple"),
        (nn.Linear(3, 2), "cannot take an input of shape"),
        (Called(lambda x: torch.add(x, x * 2, alpha=2)), "alpha=2"),
        (Called(lambda x: x.clamp(-1)), r"clamp to \[-1, None\]"),
        (nn.Sequential(nn.Hardswish()), "0: Hardswish is no staircase"),
        (Called(functional.silu), "silu: silu is no staircase"),
        (nn.Sequential(nn.PReLU()), "0: PReLU is no staircase"),
    ],
)
def test_what_has_no_such_graph_is_refused_by_name(model, message):
    with pytest.raises(ValueError, match=message):
        float_graph(model, torch.randn(5, 4))


def test_an_average_to_more_than_there_is_is_refused_with_the_sizes():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(6))
    with pytest.raises(ValueError, match="1: maps of 4×4 are averaged to 6×6"):
        float_graph(model, torch.randn(1, 3, 4, 4))
