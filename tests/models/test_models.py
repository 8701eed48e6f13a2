"""What holds for every model: gradients, options, exact sums of the hardware form."""

from __future__ import annotations

import brevitas.nn as qnn
import pytest
import torch
from brevitas.quant import Int8ActPerTensorFloat
from torch import nn

from brevitas_ftprop.core import TargetPropStaircaseQuant
from brevitas_ftprop.models import ConvNet4, ConvNet8, QuantAlexNet, QuantResNet18
from brevitas_ftprop.proxy import TargetPropProxy
from brevitas_ftprop.quant import (
    TargetPropInt8ActPerTensorFloat,
    TargetPropSignedBinaryActPerTensorConst,
)

pytestmark = pytest.mark.heavy

STAIRCASE_SCALES = [
    (3, "paper", 1 / 3),
    (5, "paper", 1 / 5),
    (3, "hardware", 1 / 4),
    (5, "hardware", 1 / 8),
]
ACTS = ["sign", "staircase3", "int2", "int4"]
FORMS = ["paper", "hardware"]
WEIGHTS = [(None, "tensor"), (1, "tensor"), (1, "channel"), (2, "tensor"), (4, "channel")]
# Every activation, weight width and granularity at least once.
EXACT = [
    ("sign", None, "tensor"),
    ("sign", 2, "channel"),
    ("int2", 1, "tensor"),
    ("int2", 4, "channel"),
    ("int4", 1, "channel"),
    ("int8", 8, "tensor"),
    ("staircase3", 2, "tensor"),
    ("staircase5", 4, "channel"),
]


def train_a_step(model: nn.Module, images: torch.Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    loss = nn.functional.cross_entropy(model(images), torch.arange(len(images)) % 10)
    loss.backward()
    optimizer.step()


def assert_every_gradient_is_finite_and_not_zero(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def target_prop_proxies(model: nn.Module, kind: str) -> dict[str, TargetPropProxy]:
    proxies = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, TargetPropProxy) and name.endswith(kind) and module.is_quant_enabled
    }
    assert proxies
    return proxies


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.cover(2)
def test_a_training_step_gives_every_parameter_a_finite_gradient_that_is_not_zero(
    narrow, act, form
):
    model = narrow.build(act=act, form=form)
    train_a_step(model, narrow.images(8))
    assert_every_gradient_is_finite_and_not_zero(model)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("bits", "scale"), WEIGHTS)
@pytest.mark.cover(1)
def test_every_weight_width_trains(narrow, bits, scale, form):
    model = narrow.build(form=form, weight_bits=bits, weight_scale=scale)
    train_a_step(model, narrow.images(8))
    assert_every_gradient_is_finite_and_not_zero(model)


@pytest.mark.parametrize("act", ["relu", "saturated_relu"])
def test_the_float_baselines_have_no_quantizer_and_train(narrow, act):
    model = narrow.build(act=act)
    train_a_step(model, narrow.images(8))
    assert_every_gradient_is_finite_and_not_zero(model)
    enabled = [m for m in model.modules() if getattr(m, "is_quant_enabled", False)]
    assert not enabled


@pytest.mark.parametrize("form", FORMS)
def test_outputs_are_plain_tensors(narrow, form):
    logits = narrow.build(form=form).eval()(narrow.images(2))
    assert type(logits) is torch.Tensor
    assert logits.shape == (2, 10)


def test_the_rule_reaches_every_quantizer(narrow):
    model = narrow.build(
        act="int2",
        form="hardware",
        rule="SSTE",
        weight_rule="hinge",
        weighting="mean",
        staircase="sum",
    )
    for proxy in target_prop_proxies(model, "act_quant").values():
        assert (proxy.rule, proxy.weighting, proxy.staircase) == ("saturated_ste", "mean", "sum")
    for proxy in target_prop_proxies(model, "weight_quant").values():
        assert (proxy.rule, proxy.weighting, proxy.staircase) == ("hinge", "grad", "sum")


def test_the_default_rules_are_the_soft_hinge_and_for_weights_the_straight_through_estimator(
    narrow,
):
    model = narrow.build(form="hardware")
    assert {p.rule for p in target_prop_proxies(model, "act_quant").values()} == {"soft_hinge"}
    assert {p.rule for p in target_prop_proxies(model, "weight_quant").values()} == {"ste"}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.cover(1)
def test_the_rule_changes_the_gradient_and_not_the_output(narrow, act):
    images = narrow.images(4)
    outputs, gradients = [], []
    for rule in ("soft_hinge", "ste"):
        torch.manual_seed(0)
        model = narrow.build(act=act, rule=rule).eval()
        outputs.append(model(images))
        outputs[-1].square().sum().backward()
        gradients.append(next(model.parameters()).grad)
    assert torch.equal(*outputs)
    assert not torch.equal(*gradients)


def test_a_quantizer_class_of_ones_own_is_used_and_keeps_its_rule(narrow):
    class HingeSign(TargetPropSignedBinaryActPerTensorConst):
        rule = "hinge"

    proxies = target_prop_proxies(narrow.build(act=HingeSign), "act_quant")
    assert {proxy.rule for proxy in proxies.values()} == {"hinge"}
    proxies = target_prop_proxies(narrow.build(act=HingeSign, rule="ste"), "act_quant")
    assert {proxy.rule for proxy in proxies.values()} == {"ste"}


def test_a_stock_quantizer_class_is_used_as_it_is(narrow):
    model = narrow.build(act=Int8ActPerTensorFloat)
    train_a_step(model, narrow.images(4))
    assert not any(isinstance(module, TargetPropProxy) for module in model.modules())


@pytest.mark.parametrize(("act", "bits", "scale"), EXACT)
@pytest.mark.cover(1)
def test_every_scale_of_the_hardware_form_is_a_power_of_two(narrow, act, bits, scale):
    model = narrow.build(act=act, form="hardware", weight_bits=bits, weight_scale=scale)
    train_a_step(model, narrow.images(4))
    model.eval()(narrow.images(1))
    kinds = ("act_quant", "weight_quant")
    for kind in kinds:
        for name, proxy in target_prop_proxies(model, kind).items():
            mantissa, _ = torch.frexp(proxy.scale())
            assert (mantissa == 0.5).all(), name


@pytest.mark.parametrize(("steps", "form", "scale"), STAIRCASE_SCALES)
def test_staircases_have_the_paper_s_levels_or_power_of_two_ones(narrow, steps, form, scale):
    model = narrow.build(act=f"staircase{steps}", form=form)
    quants = [m for m in model.modules() if isinstance(m, TargetPropStaircaseQuant)]
    assert quants
    for quant in quants:
        y, found, *_ = quant(torch.linspace(-0.5, 1.5, 401))
        assert found == torch.tensor(scale)
        assert torch.equal(y.unique(), torch.arange(steps + 1) * found)


def test_the_hardware_form_has_no_bias_and_a_batch_norm_after_every_layer_but_the_last(narrow):
    model = narrow.build(form="hardware")
    layers = [m for m in model.modules() if isinstance(m, qnn.QuantConv2d | qnn.QuantLinear)]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d)]
    assert all(layer.bias is None for layer in layers)
    assert len(norms) == len(layers) - 1
    widths = [layer.weight.shape[0] for layer in layers[:-1]]
    assert sorted(norm.num_features for norm in norms) == sorted(widths)


def test_the_hardware_form_has_eight_bits_in_its_outer_layers_and_two_between_by_default(narrow):
    model = narrow.build(form="hardware")
    model.eval()(narrow.images(1))
    layers = [m for m in model.modules() if isinstance(m, qnn.QuantConv2d | qnn.QuantLinear)]
    bits = [int(layer.weight_quant.bit_width()) for layer in layers]
    assert bits == [8, *[2] * (len(layers) - 2), 8]
    assert layers[-1].weight_quant.scale().numel() == 1


def test_per_channel_scales_are_those_of_every_layer_but_the_last(narrow):
    for form in FORMS:
        model = narrow.build(form=form, weight_bits=4, weight_scale="channel")
        layers = [m for m in model.modules() if isinstance(m, qnn.QuantConv2d | qnn.QuantLinear)]
        quantized = [layer for layer in layers if layer.weight_quant.is_quant_enabled]
        for layer in quantized:
            channels = 1 if layer is layers[-1] else layer.weight.shape[0]
            assert layer.weight_quant.scale().numel() == channels
        assert len(quantized) == len(layers) - (2 if form == "paper" else 0)


@pytest.mark.parametrize(("act", "bits", "scale"), EXACT)
@pytest.mark.cover(1)
def test_sums_of_the_hardware_form_equal_their_float64_recomputation(narrow, act, bits, scale):
    model = narrow.build(act=act, form="hardware", weight_bits=bits, weight_scale=scale)
    train_a_step(model, narrow.images(4))
    checked = []

    def recompute(module, inputs, output):
        x, w = inputs[0].double(), module.quant_weight().value.double()
        if isinstance(module, qnn.QuantLinear):
            exact = nn.functional.linear(x, w)
        else:
            exact = nn.functional.conv2d(x, w, None, module.stride, module.padding)
        assert torch.equal(output, exact.float())
        checked.append(module)

    layers = [m for m in model.modules() if isinstance(m, qnn.QuantConv2d | qnn.QuantLinear)]
    for layer in layers:
        layer.register_forward_hook(recompute)
    with torch.no_grad():
        model.eval()(narrow.images(4))
    assert len(checked) == len(layers)


@pytest.mark.parametrize("model_class", [QuantAlexNet, QuantResNet18, ConvNet4, ConvNet8])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"act": "tanh"}, "unknown act 'tanh'; valid are sign, "),
        ({"act": "int9"}, "unknown act 'int9'; valid are sign, "),
        ({"act": "relu", "form": "hardware"}, "float activation"),
        ({"act": Int8ActPerTensorFloat, "rule": "hinge"}, "has no target rule"),
        ({"form": "fpga"}, "form must be one of 'paper', 'hardware', not 'fpga'"),
        ({"weight_bits": 3}, "weight_bits must be one of None, 1, 2, 4, 8, not 3"),
        ({"weight_scale": "group"}, "weight_scale must be one of 'tensor', 'channel', not 'group'"),
        ({"rule": "hard_hinge"}, "unknown rule 'hard_hinge'; valid are "),
        ({"weight_rule": "hard_hinge"}, "unknown rule 'hard_hinge'; valid are "),
        ({"weighting": "max"}, "weighting must be"),
        ({"staircase": "double"}, "staircase must be"),
        ({"input_range": 3.0}, "input_range must be a power of two, not 3.0"),
        ({"pad_value": 1}, "pad_value must be one of 0, -1, not 1"),
        ({"pad_value": -1, "act": "int2"}, "pad_value=-1 is a value of signs"),
        ({"num_classes": 0}, "num_classes must be positive integers, not 0"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_a_wrong_option_is_named_at_construction(model_class, options, message):
    with pytest.raises(ValueError, match=message):
        model_class(**options)


def test_signs_are_padded_with_minus_one_and_the_image_with_zero(narrow):
    torch.manual_seed(0)
    padded = narrow.build(pad_value=-1)
    torch.manual_seed(0)
    stock = narrow.build()
    assert padded.state_dict().keys() == stock.state_dict().keys()
    for name, layer in padded.named_modules():
        if not isinstance(layer, qnn.QuantConv2d):
            continue
        twin = stock.get_submodule(name)
        x = torch.randn(2, layer.in_channels, 13, 13)
        is_image = layer.in_channels == 3
        margin = 0 if is_image else max(twin.padding)
        surrounded = nn.functional.pad(x, 4 * [margin], value=-1.0)
        expected = nn.functional.conv2d(
            surrounded, twin.quant_weight(), twin.bias, twin.stride, twin.padding if is_image else 0
        )
        torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("act", [3, nn.ReLU, nn.ReLU()], ids=["number", "module class", "module"])
def test_an_act_that_is_no_quantizer_is_refused(narrow, act):
    with pytest.raises(TypeError, match="act must be a name or an activation quantizer class"):
        narrow.build(act=act)


def test_an_unknown_option_is_refused(narrow):
    with pytest.raises(TypeError, match="colour"):
        narrow.build(colour="red")


def test_a_state_dict_moves_between_two_models_of_one_architecture(narrow):
    options = {"act": TargetPropInt8ActPerTensorFloat, "form": "hardware"}
    first, second = narrow.build(**options), narrow.build(**options)
    train_a_step(first, narrow.images(4))
    second.load_state_dict(first.state_dict())
    images = narrow.images(2)
    assert torch.equal(first.eval()(images), second.eval()(images))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("act", ["sign", "staircase3"])
@pytest.mark.parametrize("model_class", [QuantAlexNet, QuantResNet18])
def test_a_full_size_model_takes_a_training_step(model_class, act, form):
    model = model_class(act=act, form=form)
    train_a_step(model, torch.randn(4, 3, 224, 224))
    assert_every_gradient_is_finite_and_not_zero(model)
