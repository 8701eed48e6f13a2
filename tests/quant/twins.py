"""Every ready-made quantizer beside the stock Brevitas quantizer of the same name.

The quantizers are discovered, so that a new one is tested by being added.
"""

import brevitas.quant
import brevitas.quant.fixed_point
import pytest
import torch
from brevitas.core.function_wrapper import TensorClampSte
from brevitas.inject.enum import ScalingImplType, ScalingPerOutputType, StatsOp
from brevitas.nn import QuantIdentity, QuantLinear
from brevitas.quant_tensor import IntQuantTensor

from brevitas_ftprop import quant

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


def spread_weights(layers, scale):
    """The same latent weights in both: kinks, ties, ±0, and values far outside."""
    torch.manual_seed(7)
    count = layers[0].weight.numel()
    ties = torch.arange(-9, 10) / 2 * scale
    kinks = torch.tensor([0.0, -0.0, 0.1, -0.1, 1.0, -1.0, 0.05, -0.05])
    values = torch.cat([ties, kinks, torch.randn(count - len(ties) - len(kinks)) * 0.3])
    for layer in layers:
        layer.weight.data.copy_(values.view_as(layer.weight))
