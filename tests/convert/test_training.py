"""A converted model goes on where it was: outputs, optimizer, statistics, delays, zero-points."""

import copy

import brevitas.quant
import brevitas.quant.fixed_point
import pytest
import torch
from brevitas.nn import QuantIdentity

from brevitas_ftprop import RULES, quant, restore_quantizers, swap_quantizers
from tests.convert.mixed_network import (
    adam,
    batch,
    mixed,
    same_values,
    swap_to_stock_rules,
    train,
)

STEPS = 20


@pytest.mark.parametrize("rule", RULES)
def test_forward_stays_bit_identical_in_training_and_evaluation(rule):
    model = mixed()
    twin = copy.deepcopy(model)
    swap_quantizers(model, rule, weights=True)
    for index in range(3):
        assert torch.equal(model(batch(index)), twin(batch(index)))
        same_values(model.state_dict(), twin.state_dict())
    assert torch.equal(model.eval()(batch(9)), twin.eval()(batch(9)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_live_optimizer_goes_on_bit_equal_to_stock(dtype):
    model, twin = mixed(dtype=dtype), mixed(dtype=dtype)
    optimizers = adam(model), adam(twin)
    train(model, optimizers[0], 0, 3, dtype)
    train(twin, optimizers[1], 0, 3, dtype)
    swap_to_stock_rules(model)
    ours = train(model, optimizers[0], 3, STEPS, dtype)
    theirs = train(twin, optimizers[1], 3, STEPS, dtype)
    restore_quantizers(model)
    ours += train(model, optimizers[0], 23, 3, dtype)
    theirs += train(twin, optimizers[1], 23, 3, dtype)
    assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
    same_values(model.state_dict(), twin.state_dict())
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    assert model.binary.weight.abs().max() > 0.1
    model.eval()(batch(0, dtype))
    assert model.binary.weight.abs().max() == model.binary.quant_weight().scale


def test_another_rule_trains_differently():
    model, twin = mixed(), mixed()
    swap_quantizers(model, "soft_hinge")
    train(model, adam(model), 0, 3)
    train(twin, adam(twin), 0, 3)
    assert not torch.equal(model.conv.weight, twin.conv.weight)


@pytest.mark.parametrize("when", range(6))
def test_a_quantization_delay_goes_on_counting(when):
    model, twin = mixed(delay=4, warm=when), mixed(delay=4, warm=when)
    swap_quantizers(model, "hinge")
    for index in range(3):
        assert torch.equal(model(batch(index)), twin(batch(index)))
    restore_quantizers(model)
    for index in range(6):
        assert torch.equal(model(batch(index)), twin(batch(index)))


def test_statistics_go_on_being_collected():
    model, twin = mixed(warm=2), mixed(warm=2)
    swap_quantizers(model, weights=True)
    for index in range(8):
        model(batch(index)), twin(batch(index))
        same_values(model.state_dict(), twin.state_dict())


def test_a_learned_zero_point_trains_the_same_converted_reloaded_and_built():
    """It is rounded by stock Brevitas, whatever the rule: no target belongs to it."""
    options = {"bit_width": 3, "collect_stats_steps": 1}
    converted = QuantIdentity(brevitas.quant.ShiftedUint8ActPerTensorFloat, **options)
    built = QuantIdentity(
        quant.TargetPropShiftedUint8ActPerTensorFloat, rule="soft_hinge", **options
    )
    x = torch.randn(64)
    for act in (converted, built):
        act.train()(x)
    swap_quantizers(converted, "soft_hinge")
    reloaded = copy.deepcopy(converted)
    reloaded.load_state_dict(converted.state_dict())
    gradients = []
    for act in (converted, reloaded, built):
        act.train()(x).pow(2).sum().backward()
        gradients.append({name: p.grad for name, p in act.named_parameters()})
    assert any("zero_point" in name for name in gradients[0])
    for other in gradients[1:]:
        assert list(other) == list(gradients[0])
        for name, gradient in gradients[0].items():
            assert torch.equal(other[name], gradient), name
