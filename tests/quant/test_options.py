"""Quantizers take the options of target propagation or refuse them, and are named by a grammar."""

import pytest
import torch
from brevitas.nn import QuantConv2d, QuantLinear

from brevitas_ftprop import RULES, quant
from brevitas_ftprop.levels import tensor_quant_of
from tests.quant.twins import ACTS, CHANNELS, WEIGHTS, act_options, build_act, value_of

pytestmark = pytest.mark.heavy


@pytest.mark.parametrize("name", ACTS)
def test_activation_takes_a_rule_and_defaults_to_the_soft_hinge(name):
    options = act_options(name)
    act = build_act(getattr(quant, name), options)
    assert act.act_quant.rule == "soft_hinge"
    for rule in RULES:
        act = build_act(getattr(quant, name), options, rule=rule, staircase="sum")
        assert act.act_quant.rule == rule
        assert act.act_quant.staircase == "sum"
        x = torch.randn(2, CHANNELS, 4, 4, requires_grad=True)
        value_of(act(x)).sum().backward()
        assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", WEIGHTS)
def test_weight_takes_a_rule_and_defaults_to_the_soft_hinge(name):
    layer = QuantConv2d(3, 4, 3, weight_quant=getattr(quant, name))
    assert layer.weight_quant.rule == "soft_hinge"
    for rule in RULES:
        layer = QuantConv2d(3, 4, 3, weight_quant=getattr(quant, name), weight_rule=rule)
        assert layer.weight_quant.rule == rule
        layer(torch.randn(2, 3, 5, 5)).sum().backward()
        assert layer.weight.grad.isfinite().all()
        assert layer.weight.grad.any() or "perceptron" in rule


@pytest.mark.parametrize("name", ACTS)
def test_mean_weighting_gives_gradients_of_one_over_the_batch_size(name):
    act = build_act(getattr(quant, name), act_options(name), rule="ste", weighting="mean")
    act(torch.rand(4, CHANNELS, 2, 2))
    act.eval()

    def gradient(batch_size, loss_scale):
        x = torch.full((batch_size, CHANNELS, 2, 2), 0.3, requires_grad=True)
        (value_of(act(x)) * loss_scale).sum().backward()
        return x.grad

    assert torch.equal(gradient(4, 1.0), gradient(4, 1000.0))
    assert torch.equal(gradient(4, 1.0), gradient(4, -1.0).neg())
    assert gradient(4, 1.0).min() > 0
    if hasattr(tensor_quant_of(act.act_quant), "int_quant"):
        # 1/N at any scale: the straight-through gradient with g replaced by its sign over N.
        torch.testing.assert_close(gradient(4, 1.0), torch.full((4, CHANNELS, 2, 2), 1 / 4))
    assert torch.equal(gradient(8, 1.0), gradient(4, 1.0).repeat(2, 1, 1, 1) / 2)


@pytest.mark.parametrize("name", WEIGHTS)
def test_mean_weighting_is_refused_on_weights(name):
    with pytest.raises(ValueError, match="activations"):
        QuantLinear(4, 2, False, weight_quant=getattr(quant, name), weight_weighting="mean")


@pytest.mark.parametrize("name", ACTS)
def test_mean_weighting_is_refused_in_half_precision(name):
    act = build_act(getattr(quant, name), act_options(name), weighting="mean")
    x = torch.randn(2, CHANNELS, 4, 4)
    act(x)
    with pytest.raises(ValueError, match="loss scaling"):
        act.half()(x.half())


@pytest.mark.parametrize("name", ACTS)
def test_an_unknown_rule_is_refused_when_the_layer_is_built(name):
    with pytest.raises(ValueError, match="saturated_ste"):
        build_act(getattr(quant, name), act_options(name), rule="no_such_rule")


@pytest.mark.parametrize("name", quant.__all__)
def test_name_follows_the_grammar(name):
    kinds = ("SignedBinary", "SignedTernary", "Int8", "Uint8", "ShiftedUint8", "Staircase")
    rest = name.removeprefix("TargetProp")
    assert rest != name
    assert rest.startswith(kinds)
    assert "PerTensor" in rest or "PerChannel" in rest
    assert getattr(quant, name).__doc__
