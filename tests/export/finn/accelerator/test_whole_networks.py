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


NARROW = (8, 16, 16, 16, 16)
NETWORKS = {
    "convnet4": (16, lambda: ConvNet4(10, 16, channels=(4, 6), fc=8, form="hardware")),
    "cnv_1w1a": (32, stock_cnv),
    "alexnet": (64, lambda: QuantAlexNet(10, 64, channels=NARROW, fc=32, form="hardware")),
    "resnet18": (32, lambda: QuantResNet18(10, "cifar", base=4, form="hardware")),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_three_frames_of_a_network_have_pytorchs_classes(size, simulate, name, tmp_path):
    torch.manual_seed(0)
    side, build = NETWORKS[name]
    model, images = build(), torch.randn(3, 3, side, side)
    model(images)
    folder = tmp_path / name
    export_finn(model.eval(), images[:1], folder, result="class", batch=images, progress=False)
    with torch.no_grad():
        classes = model(images).argmax(1).numpy()
    given = images.permute(0, 2, 3, 1).numpy()
    if name == "resnet18":
        told = simulate(folder, given)
        assert "ElementwiseAdd_hls_0 is full at its depth of 2" in told.deadlock
    sizing = size(folder, given, trials=2)
    assert sizing.ok, str(sizing)
    np.testing.assert_array_equal(sizing.report.outputs.reshape(-1), classes)
    assert sizing.report.steady == pytest.approx(sizing.report.estimated_between_frames, rel=0.02)
    paused = simulate(folder, given, fifo_depths=sizing.depths, pauses=True)
    assert paused.ok, str(paused)
    np.testing.assert_array_equal(paused.outputs, sizing.report.outputs)
