"""Every metric of the monitor against a computation by hand, and against autograd."""

from __future__ import annotations

import math

import pytest
import torch
from brevitas.inject.enum import QuantType
from brevitas.nn import QuantIdentity, QuantLinear, QuantReLU
from brevitas.quant import (
    Int8ActPerTensorFloat,
    Int8WeightPerTensorFloat,
    SignedBinaryActPerTensorConst,
    SignedBinaryWeightPerTensorConst,
)
from torch import nn

from brevitas_ftprop import RULES, get_rule, swap_quantizers
from brevitas_ftprop.core import rule_holder
from brevitas_ftprop.levels import tensor_quant_of
from brevitas_ftprop.monitor import MARGIN_EDGES, METRICS, Monitor
from brevitas_ftprop.quant import (
    TargetPropInt8ActPerChannelFloat,
    TargetPropInt8ActPerTensorFloat,
    TargetPropInt8WeightPerTensorFloat,
    TargetPropShiftedUint8ActPerTensorFloat,
    TargetPropSignedBinaryActPerTensorConst,
    TargetPropSignedBinaryWeightPerTensorConst,
    TargetPropStaircase3ActPerTensorConst,
    TargetPropUint8ActPerTensorFloat,
)

SIGN = TargetPropSignedBinaryActPerTensorConst
# The monitor's sums are those of float32 tensors.
CLOSE = {"rel": 1e-5}


def metrics_of(layer, x, grad, **options):
    """Figures of a layer's only activation quantizer whose output receives this gradient."""
    with Monitor(layer, every=1, **options) as monitor:
        layer(x).backward(grad)
        (metrics,) = monitor.step()["layers"].values()
    return metrics


# z, gradient of the output; target is minus its sign
Z = torch.tensor([[-2.0, -0.5, -0.0], [0.25, 1.0, 3.0]])
GRAD = torch.tensor([[1.0, -2.0, 0.5], [0.0, -4.0, 0.25]])


def test_metrics_of_a_sign_are_those_worked_out_by_hand():
    scale = 0.5
    layer = QuantIdentity(act_quant=SIGN, rule="saturated_ste", min_val=-scale, max_val=scale)
    metrics = metrics_of(layer, (Z * scale).requires_grad_(), GRAD)
    # targets -1 +1 -1 | 0 +1 -1; outputs -1 -1 +1 | +1 +1 +1
    assert metrics["with_target"] == pytest.approx(5 / 6)
    assert metrics["at_target"] == pytest.approx(2 / 5)
    # |z| > 1 at -2 and at 3
    assert metrics["dead"] == pytest.approx(2 / 5)
    assert metrics["grad_in"] == pytest.approx(math.sqrt(1 + 4 + 0.25 + 16 + 0.0625), **CLOSE)
    # what passes, times the scale
    passed = [-2.0 * scale, 0.5 * scale, 0.0, -4.0 * scale, 0.0, 0.0]
    assert metrics["grad_out"] == pytest.approx(math.hypot(*passed), **CLOSE)
    sizes = [abs(value) for value in passed]
    mean = sum(sizes) / 6
    variance = sum((size - mean) ** 2 for size in sizes) / 5
    assert metrics["gradient_instability"] == pytest.approx(variance, **CLOSE)
    # sign(z) against clamp(z, -1, 1)
    errors = [0.0, -0.5, 1.0, 0.75, 0.0, 0.0]
    assert metrics["estimating_error"] == pytest.approx(math.hypot(*errors), **CLOSE)
    # margins 2, -0.5, 0, 1, -3 of the five units with a target
    counts = dict.fromkeys(range(len(MARGIN_EDGES) + 1), 0.0)
    for margin in (2.0, -0.5, 0.0, 1.0, -3.0):
        counts[sum(margin >= edge for edge in MARGIN_EDGES)] += 1 / 5
    assert metrics["margins"] == pytest.approx(list(counts.values()), abs=1e-7)
    assert metrics["output_flips"] is None
    assert metrics["target_flips"] is None
    assert set(metrics) == {*METRICS, "margins"}


def test_at_zero_the_output_is_plus_one():
    layer = QuantIdentity(act_quant=SIGN)
    for grad, share in ((-1.0, 1.0), (1.0, 0.0)):
        x = torch.zeros(1, 4, requires_grad=True)
        assert metrics_of(layer, x, torch.full((1, 4), grad))["at_target"] == share


def test_a_one_sided_rule_is_dead_where_the_target_is_far_exceeded():
    metrics = metrics_of(QuantIdentity(act_quant=SIGN, rule="hinge"), Z.requires_grad_(), GRAD)
    # margins 2, -0.5, 0, 1, -3: only 2 is above 1
    assert metrics["dead"] == pytest.approx(1 / 5)


def test_the_estimating_error_of_reste_is_that_of_its_implementation():
    rule = get_rule("reste(progress=1)")
    z = torch.tensor([[-1.4, -0.6, -0.2, 0.15, 0.5, 1.2]])
    metrics = metrics_of(
        QuantIdentity(act_quant=SIGN, rule=rule.spec), z.clone().requires_grad_(), torch.ones(1, 6)
    )
    # there the power is neither cut near 0 nor far out, where none of these lie
    error = (torch.sign(z) * z.abs() ** (1 / 3) - torch.sign(z)).norm()
    assert metrics["estimating_error"] == pytest.approx(error.item(), **CLOSE)
    variance = (rule.slope(z)).abs().var().item()
    assert metrics["gradient_instability"] == pytest.approx(variance, **CLOSE)


def test_the_estimating_error_of_a_saturated_integer_is_its_rounding_error():
    layer = QuantIdentity(
        act_quant=TargetPropInt8ActPerTensorFloat,
        bit_width=3,
        rule="saturated_ste",
        scaling_impl_type="const",
        scaling_init=3.0,
    )
    x = torch.linspace(-2.9, 2.9, 40)[None]
    scale = layer.act_quant.scale().item()
    # lo + hi is 0 for narrow ranges; here levels -4 … 3, whose middle is -0.5
    metrics = metrics_of(layer, x.clone().requires_grad_(), torch.ones_like(x))
    v = x / scale
    lo, hi = -4.0, 3.0
    middle, half = (lo + hi) / 2, (hi - lo + 1) / 2
    estimate = ((v - middle) / half).clamp(-1, 1) * half
    error = v.round().clamp(lo, hi) - middle - estimate
    assert metrics["estimating_error"] == pytest.approx(error.norm().item(), rel=1e-4)


def ternary_layer(**options):
    layer = QuantIdentity(
        act_quant=SignedBinaryActPerTensorConst,
        quant_type=QuantType.TERNARY,
        threshold=0.7,
        min_val=-0.5,
        max_val=0.5,
    )
    if options:
        swap_quantizers(layer, **options)
    return layer


def act_layers():
    for rule in ("saturated_ste", "hinge", "soft_hinge", "perceptron"):
        for weighting in ("grad", "mean"):
            options = {"rule": rule, "weighting": weighting}
            yield QuantIdentity(act_quant=SIGN, min_val=-0.5, max_val=0.5, **options)
            for form in ("single", "sum"):
                options["staircase"] = form
                yield ternary_layer(**options)
                yield QuantIdentity(act_quant=TargetPropStaircase3ActPerTensorConst, **options)
                yield QuantIdentity(
                    act_quant=TargetPropInt8ActPerTensorFloat,
                    bit_width=3,
                    scaling_impl_type="const",
                    scaling_init=1.5,
                    **options,
                )
                yield QuantReLU(
                    act_quant=TargetPropUint8ActPerTensorFloat,
                    bit_width=2,
                    scaling_impl_type="const",
                    scaling_init=1.5,
                    **options,
                )


STOCK = [
    QuantIdentity(act_quant=SignedBinaryActPerTensorConst, min_val=-0.5, max_val=0.5),
    ternary_layer(),
    QuantIdentity(
        act_quant=Int8ActPerTensorFloat, bit_width=3, scaling_impl_type="const", scaling_init=1.5
    ),
]


def id_of(layer):
    proxy = layer.act_quant
    kind = type(rule_holder(tensor_quant_of(proxy))).__name__
    options = (getattr(proxy, name, "stock") for name in ("rule", "weighting", "staircase"))
    return "-".join([type(layer).__name__, kind, *options])


@pytest.mark.parametrize("layer", [*act_layers(), *STOCK], ids=id_of)
def test_the_leaving_gradient_is_the_one_that_autograd_gives(layer):
    x = (torch.randn(16, 20) * 2).requires_grad_()
    grad = torch.randn(16, 20)
    grad[::3, ::4] = 0
    metrics = metrics_of(layer, x, grad)
    assert metrics["grad_out"] == pytest.approx(x.grad.norm().item(), **CLOSE)
    assert metrics["gradient_instability"] == pytest.approx(x.grad.abs().var().item(), **CLOSE)
    dead = (x.grad == 0)[grad != 0].float().mean().item()
    assert metrics["dead"] == pytest.approx(dead, **CLOSE)
    assert metrics["grad_in"] == pytest.approx(grad.norm().item(), **CLOSE)
    assert sum(metrics["margins"]) == pytest.approx(1)


@pytest.mark.parametrize("staircase", ["single", "sum"])
@pytest.mark.parametrize(
    ("quantizer", "options"),
    [
        (TargetPropShiftedUint8ActPerTensorFloat, {}),
        (
            TargetPropInt8ActPerChannelFloat,
            {
                "per_channel_broadcastable_shape": (1, 3, 1, 1),
                "scaling_stats_permute_dims": (1, 0, 2, 3),
            },
        ),
    ],
)
def test_zero_points_and_scales_of_channels_are_those_of_the_sampled_units(
    quantizer, options, staircase
):
    layer = QuantIdentity(
        act_quant=quantizer,
        bit_width=3,
        rule="soft_hinge",
        staircase=staircase,
        # After one pass the scales are parameters, through which x gets no gradient.
        collect_stats_steps=1,
        **options,
    )
    x = torch.randn(8, 3, 4, 4) * torch.tensor([0.1, 1.0, 10.0])[:, None, None] + 0.3
    layer(x)
    x.requires_grad_()
    grad = torch.randn_like(x)
    metrics = metrics_of(layer, x, grad)
    assert metrics["grad_out"] == pytest.approx(x.grad.norm().item(), **CLOSE)
    # the same units in another memory layout
    strided = x.detach().to(memory_format=torch.channels_last).requires_grad_()
    assert metrics_of(layer, strided, grad) == metrics


CONST_3_BIT = {
    "weight_bit_width": 3,
    "weight_scaling_impl_type": "const",
    "weight_scaling_init": 0.3,
}


@pytest.mark.parametrize(
    ("weight_quant", "options"),
    [
        (TargetPropSignedBinaryWeightPerTensorConst, {}),
        (
            TargetPropInt8WeightPerTensorFloat,
            {
                "weight_bit_width": 3,
                "weight_scaling_impl_type": "const",
                "weight_scaling_init": 0.3,
            },
        ),
        (SignedBinaryWeightPerTensorConst, {}),
        (
            Int8WeightPerTensorFloat,
            {
                "weight_bit_width": 3,
                "weight_scaling_impl_type": "const",
                "weight_scaling_init": 0.3,
            },
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_gradient_that_leaves_a_weight_quantizer_is_the_weights_gradient(weight_quant, options):
    layer = QuantLinear(7, 5, bias=False, weight_quant=weight_quant, **options)
    x = torch.randn(3, 7)
    with Monitor(layer, every=1) as monitor:
        layer(x).square().sum().backward()
        metrics = monitor.step()["layers"]["weight_quant"]
    assert metrics["grad_out"] == pytest.approx(layer.weight.grad.norm().item(), **CLOSE)
    # z has the sign of the latent weight, and the target opposes the quantized one's gradient
    same = (layer.weight >= 0) == (layer.weight.grad < 0)
    alive = layer.weight.grad != 0
    if bool(alive.all()):
        assert metrics["at_target"] == pytest.approx(same.float().mean().item(), **CLOSE)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_metrics_on_every_form(rule):
    for form in ("single", "sum"):
        layer = QuantIdentity(
            act_quant=TargetPropStaircase3ActPerTensorConst, rule=rule, staircase=form
        )
        x = torch.randn(4, 6, requires_grad=True)
        metrics = metrics_of(layer, x, torch.randn(4, 6))
        assert all(math.isfinite(metrics[name]) for name in METRICS if "flips" not in name)


@pytest.mark.parametrize("quantizer", [SignedBinaryActPerTensorConst, Int8ActPerTensorFloat])
def test_a_stock_quantizer_has_the_metrics_of_the_rule_that_equals_it(quantizer):
    x, grad = torch.randn(8, 5) * 2, torch.randn(8, 5)
    layers = [QuantIdentity(act_quant=quantizer) for _ in range(2)]
    swap_quantizers(layers[1], "saturated_ste")
    stock, converted = (metrics_of(layer, x.clone().requires_grad_(), grad) for layer in layers)
    assert stock == converted


def test_a_rule_without_loss_has_no_estimating_error(monkeypatch):
    monkeypatch.setattr("brevitas_ftprop.rules.registry.RULES", dict(RULES))
    from brevitas_ftprop.rules import Rule, register

    @register
    class Bell(Rule):
        name = "bell_of_a_test"

        def slope(self, m):
            return torch.exp(-m * m)

    layer = QuantIdentity(act_quant=SIGN, rule="bell_of_a_test")
    x = torch.randn(2, 3, requires_grad=True)
    metrics = metrics_of(layer, x, torch.ones(2, 3))
    assert math.isnan(metrics["estimating_error"])
    assert metrics["dead"] == 0


def test_a_sample_is_of_the_same_features_of_every_image_and_stands_for_all():
    features = torch.arange(1.0, 101.0)
    layer = QuantIdentity(act_quant=SIGN, rule="ste")
    x = torch.ones(6, 10, 10, requires_grad=True)
    grad = features.reshape(10, 10).expand(6, 10, 10)
    metrics = metrics_of(layer, x, grad, units=25)
    # the same features in all six images: the estimate is √4 times the norm of 25 of them
    sampled = metrics["grad_in"] ** 2 / 4 / 6
    assert sampled == pytest.approx(round(sampled), rel=1e-4)
    assert metrics["grad_in"] == pytest.approx(grad.norm().item(), rel=0.25)
    again = metrics_of(layer, torch.ones(6, 10, 10, requires_grad=True), grad, units=25)
    assert again == metrics
    other = metrics_of(layer, torch.ones(6, 10, 10, requires_grad=True), grad, units=25, seed=1)
    assert other["grad_in"] != metrics["grad_in"]


def test_flips_of_weights_are_those_of_latent_signs_between_sampled_steps():
    layer = QuantLinear(4, 1, bias=False, weight_quant=TargetPropSignedBinaryWeightPerTensorConst)
    weights = [
        [[0.5, -0.5, 0.5, -0.5]],
        [[9.0, 9.0, 9.0, 9.0]],
        [[0.5, 0.5, -0.5, -0.5]],
        [[0.5, 0.5, 0.5, 0.5]],
        [[0.1, 0.1, -0.9, 0.1]],
    ]
    inputs = [
        [1.0, 1.0, 1.0, 1.0],
        [1.0] * 4,
        [1.0, -1.0, 0.0, -1.0],
        [1.0] * 4,
        [-1.0, -1.0, 1.0, 1.0],
    ]
    seen = []
    with Monitor(layer, every=2) as monitor:
        for weight, x in zip(weights, inputs, strict=True):
            with torch.no_grad():
                layer.weight.copy_(torch.tensor(weight))
            layer(torch.tensor([x])).sum().backward()
            entry = monitor.step()
            if entry is not None:
                metrics = entry["layers"]["weight_quant"]
                seen.append((entry["step"], metrics["output_flips"], metrics["target_flips"]))
    # the weight's gradient has the sign of the input; a zero has no target
    assert seen[0] == (0, None, None)
    assert seen[1] == (2, 0.5, pytest.approx(2 / 3))
    assert seen[2] == (4, 0.25, pytest.approx(2 / 3))


def test_flips_of_activations_are_those_on_the_probe():
    first, act, last = (
        nn.Linear(1, 4, bias=False),
        QuantIdentity(act_quant=SIGN),
        nn.Linear(4, 1, bias=False),
    )
    model = nn.Sequential(first, act, last)
    probe = torch.tensor([[1.0], [-1.0]])
    rows = [
        ([1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]),
        ([-1.0, 1.0, 1.0, 1.0], [1.0, -1.0, -1.0, 0.0]),
    ]
    seen = []
    with Monitor(model, every=1, probe=lambda: model(probe).sum()) as monitor:
        for ins, outs in rows:
            with torch.no_grad():
                first.weight.copy_(torch.tensor([ins]).T)
                last.weight.copy_(torch.tensor([outs]))
            model(torch.randn(5, 1)).sum().backward()
            seen.append(monitor.step()["layers"]["1.act_quant"])
    assert (seen[0]["output_flips"], seen[0]["target_flips"]) == (None, None)
    assert seen[1]["output_flips"] == pytest.approx(1 / 4)
    assert seen[1]["target_flips"] == pytest.approx(2 / 3)


def test_the_loss_scale_is_taken_out_of_the_gradients():
    layer = QuantIdentity(act_quant=SIGN)
    seen = {}
    for scale in (1.0, 1024.0):
        with Monitor(layer, every=1) as monitor:
            layer(Z.clone().requires_grad_()).backward(GRAD * scale)
            (seen[scale],) = monitor.step(loss_scale=scale)["layers"].values()
    assert seen[1.0] == seen[1024.0]
