"""What a check takes, refuses, and says of models that cannot even be traced."""

from __future__ import annotations

import math
import subprocess
import sys

import brevitas.nn as qnn
import pytest
import torch
from brevitas.quant import Int8ActPerTensorFixedPoint, Int8WeightPerTensorFixedPoint
from torch import nn

from brevitas_ftprop.export.deployable import DeployReport, Finding, check_deployable
from brevitas_ftprop.models import ConvNet4, QuantResNet18

ENTRY = torch.zeros(1, 4)


def layers() -> list[nn.Module]:
    return [
        qnn.QuantIdentity(act_quant=Int8ActPerTensorFixedPoint),
        qnn.QuantLinear(4, 2, bias=False, weight_quant=Int8WeightPerTensorFixedPoint),
    ]


def model() -> nn.Module:
    chain = nn.Sequential(*layers())
    chain.train()(torch.randn(8, 4))
    return chain.eval()


class WithForward(nn.Module):
    def __init__(self, forward) -> None:
        super().__init__()
        self.quantizer, self.layer = layers()
        self.forward = forward.__get__(self)


def two_inputs(self, x, y):
    return self.layer(self.quantizer(x + y))


def two_outputs(self, x):
    quantized = self.quantizer(x)
    return self.layer(quantized), quantized


def no_fixed_sequence(self, x):
    return self.layer(self.quantizer(x.numpy()))


@pytest.mark.parametrize("target", ["finn", "hls4ml", "qcdq"])
def test_a_plain_chain_has_no_findings_and_stays_as_it_is(target):
    chain = model().train()
    before = {name: value.clone() for name, value in chain.state_dict().items()}
    report = check_deployable(chain, ENTRY, target, dynamo=False)
    assert list(report) == []
    assert report.ok
    assert chain.training
    assert all(torch.equal(value, before[name]) for name, value in chain.state_dict().items())


@pytest.mark.parametrize(
    ("forward", "requirement"),
    [
        (two_inputs, "one-input"),
        (two_outputs, "one-output"),
        (no_fixed_sequence, "traceable"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_forward_of_another_form_is_a_finding(forward, requirement):
    report = check_deployable(WithForward(forward).eval(), ENTRY, dynamo=False)
    assert [finding.requirement for finding in report.errors] == [requirement]


def test_several_images_at_once_are_an_error_for_finn_only():
    batch = torch.zeros(2, 4)
    (finding,) = check_deployable(model(), batch, dynamo=False)
    assert finding.requirement == "batch-of-one"
    assert check_deployable(model(), batch, "qcdq", dynamo=False).ok


def test_weights_of_more_bits_than_float32_holds_are_found_without_counting_their_levels():
    chain = nn.Sequential(layers()[0], qnn.QuantLinear(4, 2, bias=False, weight_bit_width=32))
    (finding,) = check_deployable(chain.eval(), ENTRY, dynamo=False)
    assert (finding.requirement, finding.layer) == ("bits", "1.weight_quant")


def test_infinite_weights_are_found_by_name():
    chain = model()
    nn.init.constant_(chain[1].weight, math.inf)
    found = check_deployable(chain, ENTRY, dynamo=False)
    assert ("not-finite", "1") in [(finding.requirement, finding.layer) for finding in found]


def test_an_unknown_target_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="finn, hls4ml, qcdq"):
        check_deployable(model(), ENTRY, "vivado")


@pytest.mark.parametrize(("option", "known"), [("images", "float, uint8"), ("result", "class")])
def test_unknown_images_or_results_are_refused_with_the_known_ones(option, known):
    with pytest.raises(ValueError, match=known):
        check_deployable(model(), ENTRY, **{option: "jpeg"})


def test_a_model_without_quantizers_is_refused():
    with pytest.raises(ValueError, match="no enabled Brevitas quantizer"):
        check_deployable(nn.Linear(4, 2), ENTRY)


@pytest.mark.parametrize("act", ["sign", "staircase3", "int4"])
def test_the_hardware_forms_of_our_models_have_no_errors(act):
    small = ConvNet4(10, 8, channels=(4, 4), fc=8, act=act, form="hardware").eval()
    assert check_deployable(small, torch.zeros(1, 3, 8, 8), dynamo=False).ok


def test_a_paper_form_is_told_what_to_change_layer_by_layer():
    network = QuantResNet18(10, "cifar", base=4, act="staircase3").eval()
    report = check_deployable(network, torch.zeros(1, 3, 32, 32), dynamo=False)
    found = {(finding.requirement, finding.layer) for finding in report.errors}
    assert ("unquantized-weight", "layer1.0.conv1") in found
    assert ("unquantized-input", "conv1") in found


def test_the_same_is_found_by_the_other_exporter():
    chain = nn.Sequential(*layers(), nn.BatchNorm1d(2), qnn.QuantLinear(2, 2, bias=False))
    chain.train()(torch.randn(8, 4))
    reports = [check_deployable(chain.eval(), ENTRY, dynamo=dynamo) for dynamo in (False, True)]
    assert [[(f.requirement, f.layer) for f in report] for report in reports] == [
        [("unquantized-input", "3")]
    ] * 2


def test_a_report_lists_errors_first_and_reads_as_a_table():
    warning = Finding("warning", "a", "w", "odd", "Silent: x.", "y")
    error = Finding("error", "b", "e", "bad", "Loud: x.", "y")
    report = DeployReport("finn", (error, warning))
    assert (report.errors, report.warnings, report.ok) == ([error], [warning], False)
    assert str(report).splitlines()[:2] == ["finn: 1 errors, 1 warnings", "error   b  [e] bad"]


@pytest.mark.slow
def test_the_check_needs_neither_finn_nor_hls4ml():
    code = (
        "import sys; sys.modules['finn'] = sys.modules['hls4ml'] = None\n"
        "import torch, brevitas.nn as qnn\n"
        "from brevitas_ftprop.export.deployable import check_deployable\n"
        "m = torch.nn.Sequential(qnn.QuantIdentity(), qnn.QuantLinear(4, 2, bias=False)).eval()\n"
        "m.train()(torch.randn(4, 4)); m.eval()\n"
        "print(len(check_deployable(m, torch.zeros(1, 4), dynamo=False)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split()[-1] == "0"
