"""What differs is counted where it begins, and excused only within the rounding bound."""

from __future__ import annotations

import brevitas.nn as qnn
import pytest
import torch
from brevitas.quant import Int8ActPerTensorFixedPoint, Int8ActPerTensorFloat
from torch import nn

from brevitas_ftprop.export import VerificationError
from brevitas_ftprop.export.hls4ml import Hls4mlReport, LayerReport
from brevitas_ftprop.export.hls4ml.compare_simulation import compare, threshold_images
from brevitas_ftprop.export.quantizers import ACTIVATION, kind_of, quantizer_proxies
from brevitas_ftprop.export.verification.capture import capture
from brevitas_ftprop.levels import level_function
from brevitas_ftprop.quant import TargetPropSignedBinaryActPerTensorConst

IMAGES = 6


def simulated(model, shape):
    """What a perfect simulation would give: images, integers by quantizer, outputs."""
    images = torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(3))
    proxies = {n: p for n, p in quantizer_proxies(model).items() if kind_of(p) == ACTIVATION}
    captured = capture(model, proxies, images)
    integers = {
        (name, number): torch.round(call.result / level_function(proxies[name]).scale).double()
        for name, calls in captured.calls.items()
        for number, call in enumerate(calls)
    }
    return images, integers, captured.output.double()


def report_on(model, images, integers, output, tmp_path) -> Hls4mlReport:
    report = Hls4mlReport(tmp_path)
    compare(model, images, integers, output, report)
    return report


@pytest.mark.parametrize("name", ["sign", "staircase5", "free scales", "dense"])
def test_a_perfect_simulation_has_no_differences(name, network, tmp_path):
    model, shape = network(name)
    report = report_on(model, *simulated(model, shape), tmp_path)
    assert report.ok
    assert report.excused == 0
    assert report.images == report.same_class == IMAGES
    assert report.max_difference == 0
    assert len(report.layers) == len(simulated(model, shape)[1])


def test_one_wrong_integer_is_found_in_its_layer(network, tmp_path):
    model, shape = network("staircase5")
    images, integers, output = simulated(model, shape)
    wrong = integers["features.act1.act_quant", 0]
    wrong[2, 3, 1, 0] = (wrong[2, 3, 1, 0] + 1) % 6
    report = report_on(model, images, integers, output, tmp_path)
    assert [layer.mismatches for layer in report.layers] == [0, 0, 1, 0]
    assert report.excused == 0
    with pytest.raises(VerificationError, match=r"first at features\.act1\.act_quant"):
        report.raise_if_different()


def test_a_further_call_of_a_quantizer_is_compared_by_its_number(network, tmp_path):
    model, shape = network("dense")
    images, integers, output = simulated(model, shape)
    integers["3.summand.act_quant", 1][1, 2] += 1
    report = report_on(model, images, integers, output, tmp_path)
    wrong = {layer.name: layer.mismatches for layer in report.layers if layer.mismatches}
    assert wrong == {"3.summand.act_quant#1": 1}


def test_a_quantizer_that_was_not_simulated_is_missed(network, tmp_path):
    model, shape = network("sign")
    images, integers, output = simulated(model, shape)
    del integers["features.act1.act_quant", 0]
    with pytest.raises(VerificationError, match=r"tells nothing of features\.act1\.act_quant"):
        report_on(model, images, integers, output, tmp_path)


def test_a_scale_that_only_pytorch_rounds_is_no_difference(tmp_path):
    model = nn.Sequential(
        qnn.QuantIdentity(act_quant=Int8ActPerTensorFixedPoint),
        qnn.QuantLinear(4, 3, bias=False, output_quant=Int8ActPerTensorFloat),
    )
    model(torch.randn(64, 4))
    images, integers, output = simulated(model.eval(), (4,))
    scale = level_function(model[1].output_quant).scale.double()
    exact = integers["1.output_quant", 0] * scale
    assert not exact.equal(output)
    assert report_on(model, images, integers, exact, tmp_path).ok
    exact[2, 1] += float(scale)
    assert report_on(model, images, integers, exact, tmp_path).output_mismatches == 1


def test_a_wrong_output_is_found(network, tmp_path):
    model, shape = network("sign")
    images, integers, output = simulated(model, shape)
    output[1, 2] += 2.0**-10
    report = report_on(model, images, integers, output, tmp_path)
    assert report.output_mismatches == 1
    assert report.max_difference == 2.0**-10
    with pytest.raises(VerificationError, match="first at the output"):
        report.raise_if_different()


def test_a_tie_within_the_rounding_bound_is_excused_and_what_follows_is_not_compared(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        qnn.QuantIdentity(act_quant=Int8ActPerTensorFixedPoint),
        qnn.QuantLinear(2, 1, bias=False, weight_bit_width=8),
        qnn.QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst),
        qnn.QuantLinear(1, 2, bias=False, weight_bit_width=4),
    )
    with torch.no_grad():
        # 0.7·x₀ − 0.7·x₁ + 0.7·x₀ … is zero in integers, and nearly so in float32.
        model[1].weight.copy_(torch.tensor([[0.7, -0.7]]))
        model(torch.randn(64, 2))
    model.eval()
    images = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    proxies = {n: p for n, p in quantizer_proxies(model).items() if kind_of(p) == ACTIVATION}
    captured = capture(model, proxies, images)
    integers = {
        (name, number): torch.round(call.result / level_function(proxies[name]).scale).double()
        for name, calls in captured.calls.items()
        for number, call in enumerate(calls)
    }
    output = captured.output.double()
    integers["2.act_quant", 0][0] *= -1
    output[0] *= -1
    report = report_on(model, images, integers, output, tmp_path)
    layer = report.layers[1]
    assert (layer.mismatches, layer.excused) == (0, 1)
    assert report.ok
    assert report.max_difference > 0


def test_edge_images_hold_the_ties_of_the_input_quantizer(network):
    model, shape = network("sign")
    images = threshold_images(model, "features.input.act_quant", shape, 4)
    assert images.shape == (4, *shape)
    ties = images * 2.0**5 - 0.5
    assert (ties == ties.round()).float().mean() > 0.2
    assert torch.isfinite(images).all()


def test_a_report_reads_as_a_table_and_as_plain_types(tmp_path):
    report = Hls4mlReport(tmp_path, [LayerReport("act", 10, 1, 2)], images=5, same_class=4)
    assert not report.ok
    assert (report.mismatches, report.excused) == (1, 2)
    table = str(report).splitlines()
    assert table[0].split() == ["layer", "integers", "different", "excused"]
    assert table[1].split() == ["act", "10", "1", "2"]
    assert report.as_dict()["layers"] == [
        {"name": "act", "compared": 10, "mismatches": 1, "excused": 2}
    ]
    assert report.as_dict()["folder"] == str(tmp_path)
