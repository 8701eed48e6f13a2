"""For hls4ml and QCDQ too the check says what the export does, on generated networks."""

from __future__ import annotations

import brevitas.nn as qnn
import pytest
import torch
from brevitas.inject.enum import ScalingImplType
from brevitas.quant import Int8ActPerTensorFloat
from qonnx.core.modelwrapper import ModelWrapper
from torch import nn

from brevitas_ftprop import quantize_for_finn
from brevitas_ftprop.export import ExportError, check_deployable, export_qcdq, export_qonnx
from brevitas_ftprop.export.hls4ml.hardware_graph import hardware_graph
from tests.export.deployable.architectures import build, draw, example
from tests.quantize.float_networks import NARROW, narrow

QUICK = (2, 8)
SEEDS = range(60)
ALL = [
    pytest.param(seed, marks=() if seed in QUICK else pytest.mark.slow, id=str(seed))
    for seed in SEEDS
]


def quantized(scale: float = 1.0) -> nn.Module:
    options = {"scaling_impl_type": ScalingImplType.CONST, "scaling_init": scale}
    return qnn.QuantIdentity(Int8ActPerTensorFloat, bit_width=4, **options)


class Join(nn.Module):
    """The sum of two layers of one input, or what else joins them."""

    def __init__(self, left: nn.Module, right: nn.Module, join=torch.add) -> None:
        super().__init__()
        self.image, self.left, self.right, self.join = quantized(), left, right, join

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.image(x)
        return self.join(self.left(x), self.right(x))


def conv(**options) -> nn.Module:
    return qnn.QuantConv2d(2, 2, 1, bias=False, **options)


# What hls4ml has no exact form for: layer, requirement and message of the finding.
REFUSED = {
    "norm": (
        lambda: nn.Sequential(Join(quantized(), nn.BatchNorm2d(2))),
        ("0", "float-sum", "adds the result of 0.right, which is not quantized"),
    ),
    "scales": (
        lambda: nn.Sequential(Join(quantized(1.0), quantized(1.5))),
        (
            "0",
            "float-sum",
            "adds integers of different scales: 0.125 of 0.left.act_quant and 0.1875 of "
            "0.right.act_quant",
        ),
    ),
    "product": (
        lambda: nn.Sequential(Join(quantized(), conv(), torch.mul)),
        ("0", "branches", "joins two branches"),
    ),
    "average": (
        lambda: nn.Sequential(quantized(), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1)),
        ("2", "float-average", "averages the result of 1, which is not quantized"),
    ),
    "uncounted": (
        lambda: nn.Sequential(quantized(), nn.AvgPool2d(2, 1, 1, count_include_pad=False)),
        ("1", "average-pool", "has padding that it does not count"),
    ),
    "groups": (
        lambda: nn.Sequential(quantized(), qnn.QuantConv2d(2, 4, 1, groups=2, bias=False)),
        ("1", "groups", "has 2 groups for 2 → 4 channels"),
    ),
    "dilation": (
        lambda: nn.Sequential(quantized(), nn.MaxPool2d(2, dilation=2)),
        ("1", "pool-form", "has a dilation"),
    ),
    "image": (
        lambda: nn.Sequential(conv()),
        ("0", "unquantized-input", "reads the image, which is not quantized"),
    ),
    "weights": (
        lambda: nn.Sequential(quantized(), nn.Conv2d(2, 2, 1)),
        ("1", "unquantized-weight", "has float weights: quantize them"),
    ),
    "softmax": (
        lambda: nn.Sequential(quantized(), nn.Softmax(1)),
        ("1", "unknown-operator", "(Softmax) has no exact form"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_hls4ml_cannot_compute_exactly_is_found_by_the_names_of_the_model(name):
    build, expected = REFUSED[name]
    report = check_deployable(build().eval(), torch.zeros(1, 2, 4, 4), "hls4ml", dynamo=False)
    assert [(f.layer, f.requirement, f.message) for f in report] == [expected]


@pytest.mark.slow
@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("name", NARROW)
def test_what_is_quantized_for_finn_has_an_exact_form_in_hls4ml_too(name, power_of_two):
    model, images = narrow(name)
    options = {"power_of_two": power_of_two, "dynamo": False}
    quantized_model, _ = quantize_for_finn(model, images, **options)
    report = check_deployable(quantized_model, images[:1], "hls4ml", dynamo=False)
    assert report.ok, str(report)


def to_hls4ml(model, images, path):
    """What ``export_hls4ml`` does before it needs hls4ml."""
    hardware_graph(ModelWrapper(str(export_qonnx(model, images, path, dynamo=False))))


def to_qcdq(model, images, path):
    export_qcdq(model, images, path, dynamo=False)


@pytest.mark.parametrize(("target", "export"), [("hls4ml", to_hls4ml), ("qcdq", to_qcdq)])
@pytest.mark.parametrize("seed", ALL)
def test_the_check_predicts_what_the_export_does(target, export, seed, tmp_path):
    spec = draw(seed)
    model, images = build(spec), example(spec)
    report = check_deployable(model, images, target, dynamo=False)
    if report.ok:
        export(model, images, tmp_path / "model.onnx")
    else:
        with pytest.raises(ExportError):
            export(model, images, tmp_path / "model.onnx")
