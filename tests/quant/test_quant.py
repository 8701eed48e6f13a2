"""Every ready-made quantizer beside the stock Brevitas quantizer of the same name.

The quantizers are discovered, so that a new one is tested by being added.
"""

import math

import brevitas.quant
import brevitas.quant.fixed_point
import pytest
import torch
from brevitas.core.function_wrapper import TensorClamp, TensorClampSte
from brevitas.inject.enum import ScalingImplType, ScalingPerOutputType, StatsOp
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU
from brevitas.quant_tensor import IntQuantTensor
from torch import nn

from brevitas_ftprop import RULES, quant
from brevitas_ftprop.levels import tensor_quant_of

pytestmark = pytest.mark.heavy

STEPS = 20
CHANNELS = 3
ACTS = [name for name in quant.__all__ if "Act" in name]
WEIGHTS = [name for name in quant.__all__ if "Weight" in name]
STAIRCASES = [name for name in ACTS if "Staircase" in name]
WITH_STOCK = [name for name in ACTS if name not in STAIRCASES]
FIXED_WIDTH = ("Binary", "Ternary", "Staircase")
BITS = range(2, 9)

# Where Brevitas has no class of the same name: the one to start from, and what it lacks.
COUNTERPARTS = {
    "SignedBinaryActPerTensorFloat": (
        "SignedBinaryActPerTensorConst",
        {"scaling_impl_type": ScalingImplType.PARAMETER},
    ),
    "Int8ActPerTensorConst": (
        "Int8ActPerTensorFloatMinMaxInit",
        {"scaling_impl_type": ScalingImplType.CONST},
    ),
    "Uint8ActPerTensorConst": (
        "Uint8ActPerTensorFloatMaxInit",
        {"scaling_impl_type": ScalingImplType.CONST},
    ),
    "Int8ActPerChannelFloat": (
        "Int8ActPerTensorFloat",
        {"scaling_per_output_type": ScalingPerOutputType.CHANNEL},
    ),
    "Uint8ActPerChannelFloat": (
        "Uint8ActPerTensorFloat",
        {"scaling_per_output_type": ScalingPerOutputType.CHANNEL},
    ),
    "SignedBinaryWeightPerTensorUnit": (
        "SignedBinaryWeightPerTensorConst",
        {"scaling_const": 1.0, "tensor_clamp_impl": TensorClampSte},
    ),
    "SignedBinaryWeightPerChannelFloat": (
        "SignedBinaryWeightPerTensorConst",
        {
            "scaling_const": None,
            "tensor_clamp_impl": TensorClampSte,
            "scaling_impl_type": ScalingImplType.STATS,
            "scaling_stats_op": StatsOp.AVE,
            "scaling_per_output_type": ScalingPerOutputType.CHANNEL,
            "scaling_min_val": 1e-10,
        },
    ),
    "SignedTernaryWeightPerChannelFloat": ("Int8WeightPerChannelFloat", {"bit_width": 2}),
}


def stock_of(name):
    """The stock class, and the options that it needs to be the counterpart."""
    stock, options = COUNTERPARTS.get(name.removeprefix("TargetProp"), (None, {}))
    stock = stock or name.removeprefix("TargetProp")
    for module in (brevitas.quant, brevitas.quant.fixed_point):
        if hasattr(module, stock):
            return getattr(module, stock), options
    raise LookupError(f"add the stock counterpart of {name} to COUNTERPARTS")


def act_options(name):
    options = {}
    if "PerChannel" in name:
        options["per_channel_broadcastable_shape"] = (1, CHANNELS, 1, 1)
        options["scaling_stats_permute_dims"] = (1, 0, 2, 3)
    if ("Const" in name and "Staircase" not in name) or "Init" in name or "Binary" in name:
        options["max_val"] = 0.7
        options["min_val"] = -0.7
    elif "Staircase" not in name:
        options["collect_stats_steps"] = 3
    return options


def widths_of(name):
    return [None] if any(kind in name for kind in FIXED_WIDTH) else list(BITS)


def with_widths(names):
    return [
        pytest.param(name, bits, id=name if bits is None else f"{name}-{bits}bit")
        for name in names
        for bits in widths_of(name)
    ]


def build_act(quantizer, options, *, layer=QuantIdentity, **more):
    bits = {} if more.get("bit_width", 0) is not None else {"bit_width": None}
    more = {key: value for key, value in more.items() if key not in bits}
    return layer(act_quant=quantizer, **options, **more)


def act_twins(name, **more):
    """Ours with the rule of the handbook's table, and stock."""
    stock, lacking = stock_of(name)
    options = act_options(name)
    ours = build_act(getattr(quant, name), options, rule="saturated_ste", **more)
    return ours, build_act(stock, options | lacking, **more)


def linear(quantizer, options, prefix="weight_", **more):
    torch.manual_seed(5)
    prefixed = {prefix + key: value for key, value in options.items()}
    return QuantLinear(24, 5, bias=False, weight_quant=quantizer, **prefixed, **more)


def weight_twins(name, bits, rule="ste", **options):
    stock, lacking = stock_of(name)
    options |= {} if bits is None else {"bit_width": bits}
    ours = linear(getattr(quant, name), options | {"rule": rule})
    theirs = linear(stock, options | lacking)
    return ours, theirs


def value_of(output):
    return output.value if isinstance(output, IntQuantTensor) else output


def adversarial(scale, zero_point=0.0):
    """Random values, ±0, both ends, and every half-integer of the quantizer, with neighbours."""
    grid = torch.arange(-300, 301) / 2
    spread = (grid[torch.randperm(len(grid))[:180]] - zero_point) * scale
    small = (torch.arange(-12, 13) / 2 - zero_point) * scale
    ends = torch.tensor([0.0, -0.0, 1.0, -1.0, 0.7, -0.7, 0.1, -0.1, 1e-30, -1e-30])
    ties = torch.cat([small, small.nextafter(small + 1), small.nextafter(small - 1)])
    fixed = torch.cat([spread, ties, ends])
    noise = torch.randn(4 * CHANNELS * 6 * 8 - len(fixed)) * 1.5
    return torch.cat([fixed, noise])[torch.randperm(4 * CHANNELS * 6 * 8)].view(4, CHANNELS, 6, 8)


def assert_same(ours, theirs, what):
    assert (ours is None) == (theirs is None), what
    if ours is not None:
        assert ours.dtype is theirs.dtype, what
        same = (ours == theirs) | (ours.isnan() & theirs.isnan())
        assert same.all(), (what, (~same).sum())


def step_both(twins, optimizers, inputs, index):
    """One optimizer step of both; outputs, input gradients, gradients and states compared."""
    results = []
    for twin, optimizer, x in zip(twins, optimizers, inputs, strict=True):
        x = x.clone().requires_grad_()
        y = value_of(twin(x))
        generator = torch.Generator().manual_seed(index)
        loss = (y * torch.randn(y.shape, generator=generator)).sum()
        if optimizer is not None:
            optimizer.zero_grad()
        loss.backward()
        gradients = [parameter.grad for parameter in twin.parameters()]
        results.append((y.detach(), x.grad, *gradients))
        if optimizer is not None:
            optimizer.step()
    for position, pair in enumerate(zip(*results, strict=True)):
        assert_same(*pair, ("output" if position == 0 else "grad", index, position))
    states = [twin.state_dict() for twin in twins]
    assert list(states[0]) == list(states[1])
    for key in states[0]:
        assert_same(states[0][key], states[1][key], (key, index))


def optimizer_of(layer):
    parameters = list(layer.parameters())
    return torch.optim.SGD(parameters, lr=1e-5, momentum=0.9) if parameters else None


def assert_finite(layer):
    assert all(tensor.isfinite().all() for tensor in layer.state_dict().values())


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


def spread_weights(layers, scale):
    """The same latent weights in both: kinks, ties, ±0, and values far outside."""
    torch.manual_seed(7)
    count = layers[0].weight.numel()
    ties = torch.arange(-9, 10) / 2 * scale
    kinks = torch.tensor([0.0, -0.0, 0.1, -0.1, 1.0, -1.0, 0.05, -0.05])
    values = torch.cat([ties, kinks, torch.randn(count - len(ties) - len(kinks)) * 0.3])
    for layer in layers:
        layer.weight.data.copy_(values.view_as(layer.weight))


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


def test_learned_bit_width_of_an_activation_trains_bit_equal_to_stock():
    twins = act_twins(
        "TargetPropInt8ActPerTensorFloatMinMaxInit", bit_width=4, bit_width_impl_type="parameter"
    )
    optimizers = [optimizer_of(twin) for twin in twins]
    for index in range(STEPS):
        x = adversarial(torch.tensor(0.1))
        step_both(twins, optimizers, (x, x), index)
    assert len(list(twins[0].parameters())) == 2


@pytest.mark.parametrize("name", STAIRCASES)
def test_staircase_equals_its_formula(name):
    steps = int(name.removeprefix("TargetPropStaircase")[0])
    act = QuantIdentity(act_quant=getattr(quant, name), return_quant_tensor=True)
    ties = torch.arange(-2, steps + 3) / (steps - 1)
    x = torch.cat([ties, ties.nextafter(ties + 1), ties.nextafter(ties - 1), torch.randn(500)])
    y = act(x)
    levels = torch.ceil(x * (steps - 1)).clamp(0, steps)
    height = 2 ** -math.ceil(math.log2(steps)) if "FixedPoint" in name else 1 / steps
    torch.testing.assert_close(y.value, levels * height, rtol=1e-6, atol=0)
    assert torch.equal(y.int(float_datatype=True), levels)
    assert y.bit_width == math.ceil(math.log2(steps + 1))
    assert not y.signed


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


@pytest.mark.parametrize("name", WEIGHTS)
def test_weight_waits_for_its_quant_delay_like_stock(name):
    twins = weight_twins(name, None, quant_delay_steps=2)
    for index in range(4):
        x = torch.randn(3, 24)
        y = twins[0](x)
        latent = nn.functional.linear(x, twins[0].weight)
        assert torch.equal(y, twins[1](x))
        assert torch.equal(y, latent) == (index < 2)


@pytest.mark.parametrize("name", STAIRCASES)
def test_staircase_waits_for_its_quant_delay(name):
    act = QuantIdentity(act_quant=getattr(quant, name), quant_delay_steps=2)
    x = torch.randn(3, 5)
    assert [torch.equal(value_of(act(x)), x) for _ in range(4)] == [True, True, False, False]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", WITH_STOCK)
def test_activation_in_another_dtype_equals_stock(name, dtype):
    twins = [twin.to(dtype) for twin in act_twins(name)]
    x = adversarial(torch.tensor(0.35)).to(dtype)
    for index in range(3):
        step_both(twins, [None, None], (x, x), index)
    assert value_of(twins[0](x)).dtype is dtype


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", STAIRCASES)
def test_staircase_in_another_dtype_equals_its_formula(name, dtype):
    act = QuantIdentity(act_quant=getattr(quant, name)).to(dtype)
    x = torch.randn(500).to(dtype).requires_grad_()
    y = value_of(act(x))
    assert y.dtype is dtype
    steps = int(name.removeprefix("TargetPropStaircase")[0])
    assert len(y.unique()) == steps + 1
    y.sum().backward()
    assert x.grad.dtype is dtype


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", WEIGHTS)
def test_weight_in_another_dtype_equals_stock(name, dtype):
    twins = [twin.to(dtype) for twin in weight_twins(name, None)]
    spread_weights(twins, 0.1)
    x = torch.randn(6, 24).to(dtype)
    for index in range(3):
        step_both(twins, [None, None], (x, x), index)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", WITH_STOCK)
def test_autocast_training_equals_stock(name, dtype):
    twins = []
    for act in act_twins(name):
        torch.manual_seed(3)
        twins.append(nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), act))
    optimizers = [torch.optim.SGD(twin.parameters(), lr=1e-3) for twin in twins]
    for index in range(4):
        x = adversarial(torch.tensor(0.35))
        with torch.autocast("cpu", dtype):
            step_both(twins, optimizers, (x, x), index)
    # Stock overflows to NaN in float16 for some scales, and so do we.
    if dtype is torch.bfloat16:
        assert_finite(twins[0])


@pytest.mark.parametrize("name", WEIGHTS)
def test_autocast_training_of_weights_equals_stock(name):
    twins = weight_twins(name, None)
    spread_weights(twins, 0.1)
    optimizers = [torch.optim.SGD(twin.parameters(), lr=0.05) for twin in twins]
    for index in range(4):
        x = torch.randn(6, 24)
        with torch.autocast("cpu", torch.bfloat16):
            step_both(twins, optimizers, (x, x), index)


@pytest.mark.parametrize("name", [n for n in WEIGHTS if "PerChannel" in n])
def test_per_channel_weight_has_a_scale_for_each_output_channel(name):
    layer = QuantConv2d(3, 4, 3, weight_quant=getattr(quant, name))
    with torch.no_grad():
        layer.weight *= torch.tensor([1.0, 4.0, 16.0, 64.0]).view(4, 1, 1, 1)
    scale = layer.quant_weight().scale
    assert scale.shape == (4, 1, 1, 1)
    assert len(scale.unique()) == 4


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


@pytest.mark.parametrize("name", quant.__all__)
def test_name_follows_the_grammar(name):
    kinds = ("SignedBinary", "SignedTernary", "Int8", "Uint8", "ShiftedUint8", "Staircase")
    rest = name.removeprefix("TargetProp")
    assert rest != name
    assert rest.startswith(kinds)
    assert "PerTensor" in rest or "PerChannel" in rest
    assert getattr(quant, name).__doc__
