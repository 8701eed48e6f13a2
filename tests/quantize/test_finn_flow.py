"""Quantized float networks go through FINN's flow without a difference."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from brevitas_ftprop import quantize_for_finn
from tests.quantize.float_networks import NARROW, NarrowResNet, draw, narrow

pytest.importorskip("finn", reason="needs the extra 'finn'")

from brevitas_ftprop import export_finn

# Together they have all sound parts of the generator.
SOUND = (0, 1, 2, 4, 5, 6, 10, 15, 17, 19, 20, 22, 23, 25, 26, 27, 29, 30, 31)
OPTIONS = (
    {"act": "int4"},
    {"act": "sign", "weight_bits": 1},
    {"act": "staircase3", "weight_bits": 2, "power_of_two": True},
    {"act": "int2", "weight_scale": "tensor", "quantize_output": True},
)
PIXELS = {"images": "uint8", "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def compile_and_compare(quantized: nn.Module, seen, folder, **options):
    """The number of integers that were compared; none is different, at any of seven steps."""
    report = export_finn(
        quantized.eval(), seen[:1], folder, progress=False, dynamo=False, **options
    )
    assert report.ok
    steps = report.as_dict()["steps"]
    assert len(steps) == 7
    assert all(step["mismatches"] == 0 for step in steps)
    return sum(step["compared"] for step in steps)


def as_pixels(images):
    """Pixels from 0 to 255, and what the network takes of them."""
    pixels = (images * 64 + 128).clamp(0, 255).round()
    return pixels, (pixels / 255 - 0.5) / 0.25


@pytest.mark.slow
def test_a_small_vgg_gives_the_class_of_pixels(tmp_path):
    model, images = narrow("vgg_bn")
    pixels, images = as_pixels(images)
    quantized, _ = quantize_for_finn(model, images, quantize_output=True, dynamo=False)
    options = {"batch": pixels[:2].to(torch.uint8), "result": "class", **PIXELS}
    assert compile_and_compare(quantized, images, tmp_path / "out", **options) > 10_000


def test_a_generated_network_computes_the_same(tmp_path):
    generated_network_computes_the_same(24, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SOUND)
def test_generated_networks_compute_the_same(seed, tmp_path):
    generated_network_computes_the_same(seed, tmp_path)


def generated_network_computes_the_same(seed, tmp_path):
    model, images, unsound = draw(seed)
    assert unsound is None
    options = OPTIONS[seed % len(OPTIONS)]
    quantized, _ = quantize_for_finn(model, images, dynamo=False, **options)
    result = "class" if "quantize_output" in options else "logits"
    compile_and_compare(quantized, images, tmp_path / "out", batch=images[:2], result=result)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NARROW if name != "resnet18"])
def test_a_torchvision_network_computes_the_same(name, tmp_path):
    model, images = narrow(name)
    pixels, images = as_pixels(images)
    quantized, _ = quantize_for_finn(model, images, dynamo=False)
    options = {"batch": pixels[:2].to(torch.uint8), **PIXELS}
    compile_and_compare(quantized, images, tmp_path / "out", **options)


@pytest.mark.slow
def test_a_torchvision_resnet18_trained_for_an_epoch_computes_the_same(cifar10, tmp_path):
    torch.manual_seed(0)
    model = NarrowResNet(8)
    pixels = nn.functional.interpolate(cifar10.images, size=(64, 64)).mul(255).round()
    images = (pixels / 255 - 0.5) / 0.25
    quantized, _ = quantize_for_finn(model, images[:1], calibrate=images[:64], dynamo=False)
    quantized.train()
    before = [value.clone() for value in quantized.parameters()]
    optimizer = torch.optim.Adam(quantized.parameters(), 3e-3)

    def loss_of(chosen):
        logits = quantized(images[chosen])
        return nn.functional.cross_entropy(logits, cifar10.labels[chosen])

    with torch.no_grad():
        first = loss_of(slice(None))
    for batch in torch.randperm(len(images)).split(20):
        optimizer.zero_grad()
        loss_of(batch).backward()
        optimizer.step()
    with torch.no_grad():
        assert loss_of(slice(None)) < first - 0.2
    pairs = zip(before, quantized.parameters(), strict=True)
    assert not any(torch.equal(old, new) for old, new in pairs)
    options = {"batch": pixels[:4].to(torch.uint8), **PIXELS}
    assert compile_and_compare(quantized, images, tmp_path / "out", **options) > 500_000
