"""A float network becomes one that FINN maps, or is refused by name."""

from __future__ import annotations

import copy

import brevitas.nn as qnn
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from brevitas_ftprop import check_deployable, quantize_for_finn
from tests.quantize.float_networks import NARROW, Residual, draw, narrow

pytestmark = pytest.mark.heavy

FAST = ("alexnet", "vgg_bn")
# Of 150 networks, two that are accepted and two that are not.
QUICK = (24, 50)
SMALL = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
INPUT = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def digits():
    """A network trained on handwritten digits, images that it has not seen, and their classes."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.tensor(data.target)
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU6(), nn.Flatten()),
        nn.Linear(256, 10),
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(4):
        for batch in torch.randperm(1400).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    return model.eval(), images[1400:], labels[1400:]


@pytest.mark.parametrize(
    "name",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in NARROW],
)
def test_a_torchvision_network_is_accepted_and_computes_nearly_the_same_in_8_bits(name):
    model, images = narrow(name)
    quantized, report = quantize_for_finn(
        model, images[:1], act="int8", weight_bits=8, calibrate=images, dynamo=False
    )
    findings = check_deployable(quantized, images[:1], dynamo=False)
    assert findings.ok
    assert {finding.requirement for finding in findings} <= {"inexact-accumulator"}
    with torch.no_grad():
        cosines = torch.cosine_similarity(quantized(images), model(images))
    assert cosines.min() > 0.95
    assert report.change < 0.1


def test_the_dynamo_exporter_accepts_what_torchscript_does():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    images = torch.randn(4, 3, 6, 6)
    quantized, report = quantize_for_finn(model, images)
    assert not report.warnings
    assert not check_deployable(quantized, images[:1], images="uint8").findings


@pytest.mark.parametrize("options", [{}, {"power_of_two": True}], ids=["float", "power of two"])
def test_a_trained_network_keeps_its_accuracy_without_training(digits, options):
    model, images, labels = digits
    bits = {"act": "int8", "weight_bits": 8, "dynamo": False}
    quantized, _ = quantize_for_finn(model, images[:1], calibrate=images[:64], **bits, **options)
    with torch.no_grad():
        expected, found = model(images), quantized(images)
    assert torch.cosine_similarity(found, expected).min() > 0.95
    accuracy = [float((logits.argmax(1) == labels).float().mean()) for logits in (expected, found)]
    assert accuracy[1] > accuracy[0] - 0.01


def test_the_float_model_is_left_as_it_was_in_its_mode(digits):
    model, images, _ = digits
    model = copy.deepcopy(model).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    quantized, _ = quantize_for_finn(model, images[:8], dynamo=False)
    assert model.training
    assert all(module.training for module in quantized.modules())
    quantized(images).sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.grad is not None for parameter in quantized.parameters())


@pytest.mark.parametrize("seed", QUICK)
def test_generated_networks_are_accepted_unless_a_part_is_unsound(seed):
    assert_judged(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [seed for seed in range(150) if seed not in QUICK])
def test_many_generated_networks_are_accepted_unless_a_part_is_unsound(seed):
    assert_judged(seed)


def assert_judged(seed):
    model, images, unsound = draw(seed)
    if unsound is None:
        quantized, _ = quantize_for_finn(model, images, dynamo=False)
        assert check_deployable(quantized, images[:1], dynamo=False).ok
    else:
        with pytest.raises(ValueError, match=r"^[\w.]+: .*(Fix: |replace)"):
            quantize_for_finn(model, images, dynamo=False)


def test_joined_branches_and_upsampled_maps_are_accepted_and_so_are_signals():
    branches = Residual(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()), nn.Identity(), "cat")
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), branches, nn.Conv2d(8, 4, 1), nn.ReLU()]
    maps = nn.Sequential(*layers, nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 3))
    signals = nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(4, 2, 3))
    for model, inputs in ((maps, torch.randn(2, 3, 6, 6)), (signals, torch.randn(2, 3, 12))):
        quantized, _ = quantize_for_finn(model.eval(), inputs, dynamo=False)
        assert check_deployable(quantized, inputs[:1], dynamo=False).ok


def test_the_class_may_be_the_result_where_the_logits_are_quantized():
    quantized, report = quantize_for_finn(SMALL, INPUT, quantize_output=True, dynamo=False)
    assert check_deployable(quantized, INPUT[:1], result="class", dynamo=False).ok
    assert report[-1].name == "2_quant"


@pytest.mark.parametrize("act", ["sign", "staircase3", "staircase5", "int2", "int8"])
@pytest.mark.parametrize("weight_bits", [1, 3])
@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.cover(1)
def test_every_act_and_weight_width_is_accepted(act, weight_bits, power_of_two):
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    options = {"act": act, "weight_bits": weight_bits, "power_of_two": power_of_two}
    quantized, _ = quantize_for_finn(
        model, INPUT, rule="hinge", weight_rule="ste", dynamo=False, **options
    )
    inner, outer = quantized.get_submodule("2"), quantized.get_submodule("0")
    assert (inner.weight_quant.bit_width(), outer.weight_quant.bit_width()) == (weight_bits, 8)
    assert quantized.get_submodule("1").act_quant.rule == "hinge"
    assert inner.weight_quant.rule == "ste"
    assert torch.equal(inner.weight, model[2].weight)
    if power_of_two:
        proxies = (inner.weight_quant, quantized.get_submodule("1").act_quant)
        for scale in (proxy.scale().detach() for proxy in proxies):
            assert torch.equal(scale, 2 ** scale.log2().round())


def test_the_report_names_every_quantizer_and_what_it_changes(digits):
    model, images, _ = digits
    options = {"act": "int2", "weight_bits": 8, "dynamo": False}
    quantized, report = quantize_for_finn(model, images[:64], **options)
    quantizers = [
        name
        for name, module in quantized.named_modules()
        if isinstance(module, qnn.QuantConv2d | qnn.QuantLinear | qnn.QuantReLU | qnn.QuantIdentity)
    ]
    assert sorted(insertion.name for insertion in report) == sorted(quantizers)
    # Of one quantizer alone, by hand.
    alone = copy.deepcopy(model)
    alone[2] = quantized.get_submodule("2")
    with torch.no_grad():
        expected, found = model(images[:64]), alone(images[:64])
    by_name = {insertion.name: insertion.change for insertion in report}
    assert by_name["2"] == pytest.approx(float((found - expected).norm() / expected.norm()), 1e-3)
    with torch.no_grad():
        found = quantized(images[:64])
    change = float((found - expected).norm() / expected.norm())
    assert report.change == pytest.approx(change, 1e-3)
    assert all(insertion.name in str(report) for insertion in report)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"act": "int9"}, "act must be one of 'sign', 'staircase3', 'staircase5', 'int2'"),
        ({"act": "relu"}, "'int8', not 'relu'"),
        ({"weight_bits": 9}, "weight_bits must be one of 1, 2"),
        ({"weight_bits": True}, "not True"),
        ({"weight_scale": "group"}, "weight_scale must be one of 'tensor', 'channel'"),
        ({"signed_bits": 1}, "signed_bits must be one of None, 2"),
        ({"power_of_two": 1}, "power_of_two must be one of False, True, not 1"),
        ({"rule": "hinges"}, "hinges"),
        ({"calibrate": torch.randn(4, 7)}, "calibrate has shape"),
    ],
)
def test_unknown_options_are_told_with_the_valid_ones(options, message):
    with pytest.raises(ValueError, match=message):
        quantize_for_finn(SMALL, INPUT, **options)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("resnet18", TypeError, "expected a float torch.nn.Module, got str"),
        (copy.deepcopy(SMALL).double(), TypeError, "0.weight is torch.float64"),
        (nn.Sequential(nn.ReLU(), nn.Flatten()), ValueError, "no convolution or linear layer"),
        (nn.Sequential(qnn.QuantLinear(8, 2, False)), ValueError, "is a quantizer already"),
    ],
)
def test_what_is_no_float_network_is_refused(model, error, message):
    with pytest.raises(error, match=message):
        quantize_for_finn(model, INPUT)


def test_what_finn_does_not_map_is_refused_with_its_fix_and_counts_the_others():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.AvgPool2d(2), nn.Conv2d(4, 4, 1), nn.AvgPool2d(2), nn.Conv2d(4, 4, 1)
    )
    with pytest.raises(ValueError, match="1: AveragePool that is not global") as raised:
        quantize_for_finn(model, torch.randn(2, 3, 8, 8), dynamo=False)
    assert "Fix: use a convolution of stride 2" in str(raised.value)
    assert str(raised.value).endswith("more)")
