"""Every model leaves by both exporters as files that compute exactly what it does."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from brevitas_ftprop.export import export_qcdq, export_qonnx, verify_export
from brevitas_ftprop.models import ConvNet4, QuantAlexNet

pytestmark = pytest.mark.heavy

EXPORTERS = {"qonnx": export_qonnx, "qcdq": export_qcdq}
MODELS = ["alexnet", "resnet18_cifar", "resnet18_imagenet", "convnet4", "convnet8"]
ACTS = ["sign", "staircase3", "staircase5", "int2", "int4"]
FORMS = ["hardware", "paper"]

# Model, act, form, weights, exporter and its kind: each value of each with several of the others.
# The dynamo exporter takes several times as long as TorchScript's.
COVER = [
    ("alexnet", "sign", "hardware", (2, "tensor"), "qonnx", "torchscript"),
    ("alexnet", "staircase5", "paper", (None, "tensor"), "qonnx", "torchscript"),
    ("alexnet", "int4", "paper", (2, "channel"), "qcdq", "torchscript"),
    ("resnet18_imagenet", "staircase3", "paper", (1, "tensor"), "qcdq", "torchscript"),
    ("convnet4", "staircase3", "hardware", (8, "tensor"), "qonnx", "torchscript"),
    ("convnet4", "int2", "hardware", (1, "channel"), "qonnx", "dynamo"),
    ("convnet4", "int4", "hardware", (8, "channel"), "qcdq", "torchscript"),
    ("convnet8", "staircase5", "hardware", (2, "tensor"), "qcdq", "torchscript"),
    ("convnet8", "int2", "paper", (4, "tensor"), "qonnx", "torchscript"),
]
# As long as four others: its blocks leave with the other stem, its signs with another model.
LONG = ("resnet18_cifar", "sign", "hardware", (2, "channel"), "qonnx", "torchscript")


def resized(images: torch.Tensor, size: int) -> torch.Tensor:
    """Images with zero mean and unit variance, ``size`` × ``size``."""
    normed = (images - images.mean()) / images.std()
    return nn.functional.interpolate(normed, size=(size, size))


def trained_a_little(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model.eval()


def adversarial(like: torch.Tensor) -> torch.Tensor:
    """Zeros, and rounding ties of the input quantizer, range ends included."""
    ties = (torch.arange(like[0].numel()) % 258 - 129 + 0.5) / 32
    return torch.stack([torch.zeros_like(like[0]), ties.reshape(like[0].shape)])


def assert_exported_exactly(model, form, batch, path, exporter, kind):
    EXPORTERS[exporter](model, batch[:1], path, dynamo=kind == "dynamo")
    report = verify_export(model, path, batch)
    assert report.ok, str(report)
    assert not report.unbounded
    if form == "hardware":
        compared = sum(quantizer.compared for quantizer in report.quantizers)
        assert report.excused * 1_000_000 <= compared, str(report)


@pytest.mark.parametrize(
    ("name", "act", "form", "weights", "exporter", "kind"),
    [
        pytest.param(*case, id="-".join(map(str, case)), marks=[pytest.mark.slow] * (case is LONG))
        for case in (*COVER, LONG)
    ],
)
def test_an_exported_model_computes_exactly_what_the_model_does(
    narrow_models, cifar10, tmp_path, name, act, form, weights, exporter, kind
):
    narrow = narrow_models[name]
    bits, scale = weights
    images = resized(cifar10.images[:16], narrow.size)
    model = narrow.build(act=act, form=form, weight_bits=bits, weight_scale=scale)
    trained_a_little(model, images, cifar10.labels[:16])
    batch = torch.cat([images[:1], adversarial(images)])
    assert_exported_exactly(model, form, batch, tmp_path / "model.onnx", exporter, kind)


@pytest.mark.slow
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(("name", "act", "form"), [*itertools.product(MODELS, ACTS, FORMS)])
def test_every_model_activation_and_form_leaves_by_both_exporters(
    narrow_models, cifar10, tmp_path, name, act, form, exporter
):
    narrow = narrow_models[name]
    images = resized(cifar10.images[:16], narrow.size)
    model = trained_a_little(narrow.build(act=act, form=form), images, cifar10.labels[:16])
    batch = torch.cat([images[:4], adversarial(images)])
    assert_exported_exactly(model, form, batch, tmp_path / "model.onnx", exporter, "dynamo")


@pytest.mark.slow
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("act", ["sign", "staircase3"])
@pytest.mark.parametrize("form", FORMS)
def test_the_full_size_alexnet_leaves_by_both_exporters(cifar10, tmp_path, form, act, exporter):
    images = resized(cifar10.images[:4], 224)
    model = QuantAlexNet(act=act, form=form)
    trained_a_little(model, images, cifar10.labels[:4])
    batch = torch.cat([images[:2], adversarial(images)])
    assert_exported_exactly(model, form, batch, tmp_path / "model.onnx", exporter, "dynamo")


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_signs_padded_with_minus_one_are_exported_exactly(exporter, tmp_path):
    torch.manual_seed(0)
    options = {"act": "sign", "form": "hardware", "weight_bits": 1, "pad_value": -1}
    model = ConvNet4(10, 12, channels=(4, 6), fc=8, **options).eval()
    # TorchScript's exporter computes a padding's sizes inside the graph.
    batch = torch.cat([torch.randn(2, 3, 12, 12), adversarial(torch.zeros(1, 3, 12, 12))])
    assert_exported_exactly(model, "hardware", batch, tmp_path / "file", exporter, "torchscript")
