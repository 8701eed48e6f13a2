"""Activation quantizers train, collect statistics and wait like stock ones, bit for bit."""

import pytest
import torch
from brevitas.nn import QuantReLU

from brevitas_ftprop import quant
from tests.quant.twins import (
    ACTS,
    CHANNELS,
    STEPS,
    WITH_STOCK,
    act_options,
    act_twins,
    adversarial,
    assert_finite,
    assert_same,
    build_act,
    optimizer_of,
    step_both,
    stock_of,
    value_of,
    with_widths,
)


@pytest.mark.parametrize(("name", "bits"), with_widths(WITH_STOCK))
def test_activation_trains_bit_equal_to_stock(name, bits):
    more = {} if bits is None else {"bit_width": bits}
    twins = act_twins(name, **more)
    optimizers = [optimizer_of(twin) for twin in twins]
    for index in range(STEPS):
        scale, zero_point = torch.tensor(0.7), torch.tensor(0.0)
        if index:
            with torch.no_grad():
                twins[1].eval()
                scale = twins[1].act_quant.scale().flatten()[0]
                zero_point = twins[1].act_quant.zero_point().flatten()[0]
                twins[1].train()
        x = adversarial(scale, zero_point)
        step_both(twins, optimizers, (x, x), index)
    assert_finite(twins[0])
    for twin in twins:
        twin.eval()
    step_both(twins, [None, None], (x, x), STEPS)


@pytest.mark.parametrize("layout", ["channels_last input", "transposed gradient"])
@pytest.mark.parametrize("name", WITH_STOCK)
def test_activation_in_another_memory_layout_trains_bit_equal_to_stock(name, layout):
    twins = act_twins(name)
    for index in range(6):
        x = adversarial(torch.tensor(0.35))
        if layout == "channels_last input":
            x = x.contiguous(memory_format=torch.channels_last)
        weight = torch.randn(4, 8, CHANNELS, 6)
        results = []
        for twin in twins:
            own = x.clone().requires_grad_()
            y = value_of(twin(own))
            (y.permute(0, 3, 1, 2) * weight).sum().backward()
            results.append((own.grad, *(p.grad for p in twin.parameters())))
            twin.zero_grad()
        for position, pair in enumerate(zip(*results, strict=True)):
            assert_same(*pair, (index, position))


@pytest.mark.parametrize("name", [n for n in WITH_STOCK if "Uint8" in n])
def test_quant_relu_trains_bit_equal_to_stock(name):
    stock, lacking = stock_of(name)
    options = act_options(name) | {"bit_width": 2}
    twins = (
        QuantReLU(act_quant=getattr(quant, name), rule="saturated_ste", **options),
        QuantReLU(act_quant=stock, **options, **lacking),
    )
    optimizers = [optimizer_of(twin) for twin in twins]
    for index in range(STEPS):
        x = adversarial(torch.tensor(0.35))
        step_both(twins, optimizers, (x, x), index)


def test_learned_bit_width_of_an_activation_trains_bit_equal_to_stock():
    twins = act_twins(
        "TargetPropInt8ActPerTensorFloatMinMaxInit", bit_width=4, bit_width_impl_type="parameter"
    )
    optimizers = [optimizer_of(twin) for twin in twins]
    for index in range(STEPS):
        x = adversarial(torch.tensor(0.1))
        step_both(twins, optimizers, (x, x), index)
    assert len(list(twins[0].parameters())) == 2


@pytest.mark.parametrize("name", WITH_STOCK)
def test_quant_tensor_is_that_of_stock(name):
    twins = act_twins(name, return_quant_tensor=True)
    x = adversarial(torch.tensor(0.35))
    for training in (True, False):
        ours, theirs = [twin.train(training)(x) for twin in twins]
        assert type(ours) is type(theirs)
        assert ours.signed_t == theirs.signed_t
        assert ours.training_t == theirs.training_t
        for part in ("value", "scale", "zero_point", "bit_width"):
            assert torch.equal(getattr(ours, part), getattr(theirs, part)), part
        assert ours.is_valid == theirs.is_valid


@pytest.mark.parametrize("name", [n for n in WITH_STOCK if "collect_stats_steps" in act_options(n)])
def test_statistics_are_collected_like_stock(name):
    twins = act_twins(name)
    scales = []
    for index in range(5):
        x = torch.randn(8, CHANNELS, 4, 4) * (index + 1)
        for twin in twins:
            twin(x)
        states = [twin.state_dict() for twin in twins]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        scales.append(twins[0].act_quant.scale().detach().clone())
    assert not torch.equal(scales[0], scales[1])
    assert torch.equal(scales[3], scales[4])


@pytest.mark.parametrize("name", WITH_STOCK)
def test_activation_waits_for_its_quant_delay_like_stock(name):
    twins = act_twins(name, quant_delay_steps=2)
    for index in range(4):
        x = adversarial(torch.tensor(0.35))
        ours, theirs = [value_of(twin(x)) for twin in twins]
        assert torch.equal(ours, theirs)
        assert torch.equal(ours, x) == (index < 2)


@pytest.mark.parametrize("name", [n for n in ACTS if "PerChannel" in n])
def test_per_channel_activation_has_a_scale_for_each_channel(name):
    act = build_act(getattr(quant, name), act_options(name))
    x = torch.randn(8, CHANNELS, 4, 4) * torch.tensor([1.0, 5.0, 25.0]).view(1, 3, 1, 1)
    act(x)
    assert act.act_quant.scale().shape == (1, CHANNELS, 1, 1)
    assert len(act.act_quant.scale().unique()) == CHANNELS


@pytest.mark.parametrize("name", ["TargetPropShiftedUint8ActPerTensorFloat"])
def test_shifted_activation_has_a_zero_point_that_learns(name):
    act = build_act(getattr(quant, name), act_options(name), bit_width=4)
    for _ in range(5):
        x = torch.randn(2, CHANNELS, 4, 4) - 0.5
        value_of(act(x)).sum().backward()
    assert act.act_quant.zero_point().item() > 0
    learned = {key for key, p in act.named_parameters() if p.grad is not None and p.grad.any()}
    assert any("zero_point" in key for key in learned)
    assert any("scaling" in key for key in learned)
