"""Weight quantizers train, clip and wait like stock ones, bit for bit."""

import pytest
import torch
from brevitas.core.function_wrapper import TensorClamp
from brevitas.nn import QuantConv2d
from torch import nn

from brevitas_ftprop import quant
from tests.quant.twins import (
    BITS,
    STEPS,
    WEIGHTS,
    spread_weights,
    step_both,
    weight_twins,
    with_widths,
)


@pytest.mark.parametrize(("name", "bits"), with_widths(WEIGHTS))
def test_weight_trains_bit_equal_to_stock(name, bits):
    twins = weight_twins(name, bits)
    spread_weights(twins, 0.1)
    optimizers = [torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9) for twin in twins]
    for index in range(STEPS):
        x = torch.randn(6, 24)
        step_both(twins, optimizers, (x, x), index)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", [n for n in WEIGHTS if n.startswith("TargetPropInt8")])
def test_weight_outside_the_range_of_a_learned_scale_trains_bit_equal_to_stock(name, bits):
    twins = weight_twins(
        name,
        bits,
        "saturated_ste",
        scaling_impl_type="parameter",
        scaling_init=0.25,
        scaling_per_output_type="tensor",
    )
    assert isinstance(twins[1].weight_quant.tensor_quant.int_quant.tensor_clamp_impl, TensorClamp)
    scale = twins[1].quant_weight().scale.detach().flatten()[0]
    spread_weights(twins, scale)
    assert (twins[1].weight.abs() > 0.5).any()
    optimizers = [torch.optim.SGD(twin.parameters(), lr=0.005, momentum=0.9) for twin in twins]
    before = scale.clone()
    for index in range(STEPS):
        x = torch.randn(6, 24)
        step_both(twins, optimizers, (x, x), index)
    moved = twins[0].quant_weight().scale.flatten()[0]
    assert "FixedPoint" in name or moved != before


def test_binary_weight_clips_its_latent_weight_in_place_like_stock():
    twins = weight_twins("TargetPropSignedBinaryWeightPerTensorConst", None)
    spread_weights(twins, 0.1)
    assert (twins[0].weight.abs() > 0.5).any()
    for twin in twins:
        twin.eval()(torch.randn(2, 24))
        assert twin.weight.abs().max() == torch.tensor(0.1)
    assert torch.equal(*[twin.weight for twin in twins])


def test_hardware_binary_weight_leaves_its_latent_weight_alone():
    (ours, _) = weight_twins("TargetPropSignedBinaryWeightPerTensorUnit", None)
    spread_weights((ours,), 1.0)
    before = ours.weight.detach().clone()
    ours(torch.randn(2, 24)).sum().backward()
    assert torch.equal(ours.weight, before)
    assert ours.quant_weight().value.unique().tolist() == [-1, 1]


@pytest.mark.parametrize("bits", [2, 4])
def test_learned_bit_width_trains_bit_equal_to_stock(bits):
    twins = weight_twins(
        "TargetPropInt8WeightPerTensorFloat", bits, "saturated_ste", bit_width_impl_type="parameter"
    )
    spread_weights(twins, 0.1)
    optimizers = [torch.optim.SGD(twin.parameters(), lr=0.01, momentum=0.9) for twin in twins]
    for index in range(STEPS):
        x = torch.randn(6, 24)
        step_both(twins, optimizers, (x, x), index)
    assert len(list(twins[0].parameters())) == 2


@pytest.mark.parametrize("name", WEIGHTS)
def test_weight_waits_for_its_quant_delay_like_stock(name):
    twins = weight_twins(name, None, quant_delay_steps=2)
    for index in range(4):
        x = torch.randn(3, 24)
        y = twins[0](x)
        latent = nn.functional.linear(x, twins[0].weight)
        assert torch.equal(y, twins[1](x))
        assert torch.equal(y, latent) == (index < 2)


@pytest.mark.parametrize("name", [n for n in WEIGHTS if "PerChannel" in n])
def test_per_channel_weight_has_a_scale_for_each_output_channel(name):
    layer = QuantConv2d(3, 4, 3, weight_quant=getattr(quant, name))
    with torch.no_grad():
        layer.weight *= torch.tensor([1.0, 4.0, 16.0, 64.0]).view(4, 1, 1, 1)
    scale = layer.quant_weight().scale
    assert scale.shape == (4, 1, 1, 1)
    assert len(scale.unique()) == 4
