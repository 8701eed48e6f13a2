"""Networks of recipes: what can be named, what they start from, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

pytest.importorskip("jsonargparse", reason="needs the extra 'examples'")

from training import Data, Recipe, TrainingError
from training.network import build_network
from training.result import hash_weights

SMALL = Data(name="random", image_size=32)


def build(model: str, classes: int = 10, **options):
    data = Data(name="random", image_size=options.pop("image_size", 32))
    return build_network(Recipe(model=model, data=data, **options), classes)


@pytest.mark.parametrize(
    ("model", "options", "converted"),
    [
        ("convnet4", {"act": "staircase3"}, 3),
        ("convnet4", {"act": "sign", "weight_bits": 2, "weight_rule": "hinge"}, 5),
        ("convnet8", {"act": "int4"}, 7),
        ("brevitas:cnv_1w1a", {}, 9),
        ("torchvision:alexnet", {"act": "int4", "weight_bits": 4, "image_size": 64}, 10),
        ("tiny_networks:stateful", {"image_size": 8, "model_options": {"delay": 1}}, 5),
    ],
)
def test_a_model_is_built_and_converted(model, options, converted):
    assert build(model, **options)[1] == converted


def test_residuals_of_torchvisions_networks_take_narrow_activations_and_images_stay_wide():
    network, converted = build("torchvision:resnet18", act="int4")
    assert converted > 9
    assert int(network.x_quant.act_quant.bit_width()) == 8
    assert int(network.layer1.get_submodule("0").relu.act_quant.bit_width()) == 4


def test_a_float_network_is_quantized_for_finn_with_the_recipes_options():
    options = {"act": "int2", "weight_bits": 8, "model_options": {"power_of_two": True}}
    network, converted = build("finn:tiny_networks:floating", image_size=8, rule="hinge", **options)
    act = network.get_submodule("1").act_quant
    assert (converted, int(act.bit_width()), act.rule) == (2, 2, "hinge")
    start = build("finn:tiny_networks:floating", image_size=8, rule="stock", **options)[0]
    assert hash_weights(start) == hash_weights(network)


def test_torchvisions_batch_norms_are_trained():
    network, _ = build("torchvision:resnet18")
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == 20


@pytest.mark.parametrize("model", ["convnet4", "brevitas:cnv_1w1a"])
def test_every_rule_starts_from_the_same_weights_and_every_seed_from_others(model):
    rules = ("stock", "saturated_ste", "soft_hinge")
    assert len({hash_weights(build(model, rule=rule)[0]) for rule in rules}) == 1
    assert hash_weights(build(model)[0]) != hash_weights(build(model, seed=1)[0])


def test_stock_quantizers_are_brevitas_own():
    network, converted = build("convnet4", rule="stock")
    assert converted == 0
    assert not [m for m in network.modules() if type(m).__name__.startswith("TargetProp")]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("convnet5", {}, "valid are alexnet, convnet4"),
        ("brevitas:cnv", {}, "of Brevitas there are cnv_1w1a"),
        ("brevitas:cnv_1w1a", {"act": "sign"}, "takes no act"),
        ("brevitas:cnv_1w1a", {"classes": 100}, r"gives \(10,\) logits.* have 100 classes"),
        ("torchvision:nothing", {}, "unknown model"),
        ("torchvision:squeezenet1_1", {"image_size": 8}, "squeezenet1_1 does not take images of"),
        ("torchvision:alexnet", {"act": "sign", "image_size": 64}, "must be one of int2"),
        ("nowhere:net", {}, "there is no model nowhere:net"),
        ("tiny_networks:nothing", {}, "there is no model tiny_networks:nothing"),
        ("tiny_networks:stateful", {"image_size": 4}, "does not take images of"),
        ("tiny_networks:stateful", {"model_options": {"depth": 3}}, "'depth'; see model_options"),
        ("tiny_networks:a_model", {}, "is a model already, and each run needs a new one"),
        ("tiny_networks:failing", {}, "tiny_networks:failing failed: KeyError: 'nothing'"),
        ("convnet4", {"act": "tanh"}, "unknown act 'tanh'"),
        ("convnet4", {"model_options": {"depth": 3}}, "depth"),
        ("convnet4", {"act": "relu"}, "no activation quantizers for rule soft_hinge"),
        ("convnet4", {"act": "staircase3", "rule": "stock"}, "staircases, which stock"),
        ("convnet4", {"clip_weights": True}, "has no such method"),
        ("convnet8", {"image_size": 16}, "32×32 or 40×40"),
    ],
)
def test_what_cannot_be_built_is_told(model, options, message):
    with pytest.raises(TrainingError, match=message):
        build(model, **options)


def test_looking_at_a_networks_logits_leaves_it_untouched():
    network, _ = build("tiny_networks:stateful", image_size=8)
    assert all(not m.init_done for m in network.modules() if hasattr(m, "init_done"))
    assert all(m.counter == 0 for m in network.modules() if hasattr(m, "counter"))
    assert torch.equal(network[2].running_mean, torch.zeros(4))
