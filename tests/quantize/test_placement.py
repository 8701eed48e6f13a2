"""Quantizers stand where integers have to reach layers, sums and averages, and nowhere else."""

from __future__ import annotations

import torch
from torch import nn

from brevitas_ftprop.quantize.float_graph import float_graph
from brevitas_ftprop.quantize.placement import place_quantizers
from tests.quantize.float_networks import Residual, narrow


def placed(model, images, **options):
    graph_model = float_graph(model, images)
    expected = graph_model(images)
    slots = {slot.name: slot for slot in place_quantizers(graph_model, **options)}
    assert torch.equal(graph_model(images), expected)
    return graph_model, slots


def kinds(slots):
    return {name: slot.kind for name, slot in slots.items()}


def readers(graph_model, name):
    return sum(node.target == name for node in graph_model.graph.nodes)


def test_a_chain_has_an_input_quantizer_and_its_relus():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 1))
    _, slots = placed(model, torch.randn(1, 3, 4, 4))
    assert kinds(slots) == {
        "input_1_quant": "signed",
        "0": "layer",
        "1": "activation",
        "3": "layer",
    }
    assert [slot.name for slot in slots.values() if slot.is_last] == ["3"]
    assert all(slot.is_outer for slot in slots.values() if slot.name != "1")


def test_the_first_quantizer_stands_behind_what_is_computed_of_the_image():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.MaxPool2d(2), nn.Conv2d(3, 4, 1))
    _, slots = placed(model, torch.randn(2, 3, 4, 4))
    assert list(slots) == ["0_quant", "2"]


def test_a_batch_norm_without_relu_before_a_layer_gets_a_signed_quantizer():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1), nn.ReLU())
    _, slots = placed(model, torch.randn(2, 3, 4, 4))
    assert kinds(slots)["1_quant"] == "signed"
    assert not slots["1_quant"].is_outer


def test_both_operands_of_a_sum_pass_one_quantizer_and_the_sum_another():
    body = Residual(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), "+=")
    model = nn.Sequential(nn.ReLU(), body, nn.Conv2d(3, 2, 1))
    graph_model, slots = placed(model, torch.randn(2, 3, 4, 4))
    assert kinds(slots)["1.summand"] == kinds(slots)["1.add_quant"] == "signed"
    assert readers(graph_model, "1.summand") == 2


def test_what_a_sum_and_a_layer_read_is_quantized_once():
    """As in MobileNet-v2, whose bottlenecks end without a ReLU."""
    block = Residual(nn.Conv2d(3, 3, 1), nn.Identity(), "+")
    model = nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1), block, block, nn.Conv2d(3, 2, 1))
    graph_model, slots = placed(model, torch.randn(2, 3, 4, 4))
    inserted = [name for name, slot in slots.items() if slot.kind == "signed"]
    assert inserted == ["2.summand", "2.summand_1", "2.add_1_quant"]
    assert [readers(graph_model, name) for name in inserted] == [2, 2, 1]


def test_sums_that_share_an_operand_share_their_quantizer():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.three = (nn.Conv2d(3, 3, 1) for _ in range(3))

        def forward(self, x):
            y = self.one(x)
            return torch.relu(y + self.two(x)) * 2 + torch.relu(y + self.three(x)) * 2

    graph_model, slots = placed(Twice(), torch.randn(2, 3, 4, 4))
    assert [name for name in slots if "summand" in name] == ["summand", "summand_1"]
    assert sorted(readers(graph_model, name) for name in ("summand", "summand_1")) == [2, 3]


def test_a_sum_of_relus_is_unsigned():
    relus = [nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()) for _ in range(2)]
    model = nn.Sequential(Residual(*relus, "+"), nn.Conv2d(3, 2, 1))
    _, slots = placed(model, torch.randn(2, 3, 4, 4))
    assert kinds(slots)["0.summand"] == "unsigned"


def test_logits_are_quantized_only_if_that_is_asked_for():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    images = torch.randn(3, 4)
    asked, unasked = (placed(model, images, output=output)[1] for output in (True, False))
    assert set(asked) - set(unasked) == {"2_quant"}
    assert asked["2_quant"].is_outer


def test_a_resnet_has_a_quantizer_for_each_relu_call_and_one_for_each_sum():
    model, images = narrow("resnet18")
    graph_model, slots = placed(model, images)
    counted = [slot.kind for slot in slots.values()]
    assert counted.count("activation") == 17
    assert counted.count("layer") == 21
    # The image's, and that of each of eight sums.
    assert counted.count("signed") == 9
    summands = [name for name in slots if name.endswith("summand")]
    assert all(readers(graph_model, name) == 2 for name in summands)
