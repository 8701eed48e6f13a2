"""What differs is counted where it begins, and excused only within the rounding bound."""

from __future__ import annotations

import brevitas.nn as qnn
import pytest
import torch
from brevitas.quant import Int8ActPerTensorFixedPoint, Int8ActPerTensorFloat
from torch import nn

from brevitas_ftprop.export import VerificationError
from brevitas_ftprop.export.hls4ml import (
    Hls4mlReport,
    LayerReport,
    export_hls4ml,
    hls4ml_flow,
)
from brevitas_ftprop.export.hls4ml.compare_simulation import compare, threshold_images
from brevitas_ftprop.export.hls4ml.hardware_graph import hardware_graph
from brevitas_ftprop.export.quantizers import ACTIVATION, kind_of, quantizer_proxies
from brevitas_ftprop.export.verification.capture import capture
from brevitas_ftprop.levels import level_function
from brevitas_ftprop.quant import TargetPropSignedBinaryActPerTensorConst

IMAGES = 6
GENERATOR = torch.Generator()


def simulated(model, shape):
    """What a perfect simulation would give: images, integers by quantizer, outputs."""
    return simulated_on(model, torch.randn(IMAGES, *shape, generator=GENERATOR.manual_seed(3)))


def simulated_on(model, images):
    proxies = {n: p for n, p in quantizer_proxies(model).items() if kind_of(p) == ACTIVATION}
    captured = capture(model, proxies, images)
    integers = {
        (name, number): torch.round(call.result / level_function(proxies[name]).scale).double()
        for name, calls in captured.calls.items()
        for number, call in enumerate(calls)
    }
    return images, integers, captured.output.double()


def report_on(model, images, integers, output, tmp_path, sums=None) -> Hls4mlReport:
    report = Hls4mlReport(tmp_path)
    compare(model, images, integers, sums or {}, output, report)
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


TIE = "2.act_quant", 0


def network_with_a_tie() -> tuple[nn.Module, torch.Tensor]:
    """The sign of an integer sum that is 0 on the first image, which float32 may not say."""
    model = nn.Sequential(
        qnn.QuantIdentity(act_quant=Int8ActPerTensorFixedPoint),
        qnn.QuantLinear(2, 1, bias=False, weight_bit_width=8),
        qnn.QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst),
        qnn.QuantLinear(1, 2, bias=False, weight_bit_width=4),
    )
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[0.7, -0.7]]))
        for _ in range(2):
            model(torch.linspace(-2, 2, 128).reshape(64, 2))
    return model.eval(), torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [0.5, -1.0]])


def integer_sums(model: nn.Module, images: torch.Tensor, change: int) -> torch.Tensor:
    """Those of the first layer, with one weight changed by some integers."""
    entering = torch.round(model[0](images) / level_function(model[0].act_quant).scale)
    weights = torch.round(model[1].quant_weight().value / model[1].quant_weight().scale)
    weights[0, 0] += change
    return (entering @ weights.T).double()


@pytest.mark.parametrize(("change", "excused"), [(0, 1), (1, 0), (-1, 0)])
def test_a_weight_that_is_off_by_one_does_not_hide_behind_an_excused_unit(
    change, excused, tmp_path
):
    model, images = network_with_a_tie()
    with torch.no_grad():
        sums = integer_sums(model, images, change)
    _, integers, output = simulated_on(model, images)
    integers[TIE][0] *= -1
    output[0] *= -1
    report = report_on(model, images, integers, output, tmp_path, {TIE: sums})
    layer = report.layers[1]
    assert (layer.excused, layer.mismatches) == (excused, 1 - excused)
    # What follows from an excused difference is not compared.
    assert report.ok == bool(excused)
    assert report.max_difference > 0
    # Without the sums the tie is excused, whatever they are.
    assert report_on(model, images, integers, output, tmp_path).layers[1].excused == 1


@pytest.mark.slow
@pytest.mark.simulated
@pytest.mark.parametrize("change", [0, -1])
def test_the_simulation_tells_the_sums_of_a_weight_that_is_off_by_one(
    change, tmp_path, monkeypatch
):
    def changed(graph):
        found = hardware_graph(graph)
        name = "layer_1_weight_integers"
        weights = found.get_initializer(name).copy()
        weights[0, 0] += change
        found.set_initializer(name, weights)
        return found

    monkeypatch.setattr(hls4ml_flow, "hardware_graph", changed)
    monkeypatch.setattr(hls4ml_flow, "_images", lambda *rest, **options: images)
    model, images = network_with_a_tie()
    report = export_hls4ml(model, images[:1], tmp_path / "project")
    layer = report.layers[1]
    # The sign of the first image's sum is the only integer that such a small change moves.
    assert (layer.compared, layer.mismatches, layer.excused) == (len(images), -change, 0)


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
