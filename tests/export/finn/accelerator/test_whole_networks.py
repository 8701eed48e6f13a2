"""Networks of a usual size give PyTorch's classes, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brevitas_ftprop.export import export_finn
from brevitas_ftprop.models import ConvNet4, QuantAlexNet, QuantResNet18


def stock_cnv():
    from brevitas_examples.bnn_pynq.models import model_with_cfg

    return model_with_cfg("cnv_1w1a", False)[0]


def alexnet(**options):
    return QuantAlexNet(
        10, 64, channels=(8, 16, 16, 16, 16), fc=32, form="hardware", **options
    )  # fmt: skip


def resnet18(stem, **options):
    return QuantResNet18(10, stem, base=4, form="hardware", **options)


# Side of an image, frames a second to fold for, and the network.
NETWORKS = {
    "convnet4": (16, 1000, lambda: ConvNet4(10, 16, channels=(4, 6), fc=8, form="hardware")),
    "cnv_1w1a": (32, 1000, stock_cnv),
    "alexnet": (64, 1000, alexnet),
    "alexnet_n3": (64, 1000, lambda: alexnet(act="staircase3")),
    "resnet18": (32, 1000, lambda: resnet18("cifar")),
    "resnet18_n3": (32, 8000, lambda: resnet18("cifar", act="staircase3")),
    "resnet18_imagenet": (64, 8000, lambda: resnet18("imagenet")),
    "resnet18_imagenet_n3": (64, 8000, lambda: resnet18("imagenet", act="staircase3")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_three_frames_of_a_network_have_pytorchs_classes(size, simulate, name, tmp_path):
    torch.manual_seed(0)
    side, fps, build = NETWORKS[name]
    model, images = build(), torch.randn(3, 3, side, side)
    model(images)
    folder = tmp_path / name
    export_finn(
        model.eval(), images[:1], folder, result="class", batch=images, target_fps=fps,
        progress=False,
    )  # fmt: skip
    with torch.no_grad():
        classes = model(images).argmax(1).numpy()
    given = images.permute(0, 2, 3, 1).numpy()
    plain = simulate(folder, given)
    if name.startswith("resnet18"):
        assert "ElementwiseAdd_hls_0 is full at its depth of 2" in plain.deadlock
    sizing = size(folder, given, trials=2)
    assert sizing.ok, str(sizing)
    np.testing.assert_array_equal(sizing.report.outputs.reshape(-1), classes)
    assert sizing.report.steady == pytest.approx(sizing.report.estimated_between_frames, rel=0.02)
    paused = simulate(folder, given, fifo_depths=sizing.depths, pauses=True)
    assert paused.ok, str(paused)
    np.testing.assert_array_equal(paused.outputs, sizing.report.outputs)
    report = sizing.report
    print(
        f"{name}: {len(report.nodes)} nodes, {len(report.modelled)} in C++; between frames"
        f" {report.estimated_between_frames} estimated, {plain.deadlock or plain.steady} with FIFOs"
        f" of 2, {report.steady} with {sum(sizing.depths.values())} transactions in FIFOs; first"
        f" frame after {report.latency}, estimated {report.estimated_latency}; {report.compiled}"
        f" compiled; {report.seconds:.0f} s"
    )
