"""Partitions of converted networks: every thresholding node's RTL gives the executor's values."""

from __future__ import annotations

import pytest

from brevitas_ftprop.export.finn import export_finn
from brevitas_ftprop.export.finn.rtl import simulate_rtl

from .conftest import needs_verilator

IMAGES = 2
NETWORKS = [
    ("alexnet", "sign", 2),
    ("alexnet", "staircase3", 1),
    ("resnet18_cifar", "sign", 2),
    ("resnet18_cifar", "int4", 4),
]


@needs_verilator
@pytest.mark.slow
@pytest.mark.parametrize(("name", "act", "bits"), NETWORKS)
def test_every_thresholding_node_of_a_converted_network_gives_the_executors_values(
    name, act, bits, build_hardware, cifar10, resize_for, tmp_path
):
    from qonnx.core.modelwrapper import ModelWrapper

    images = resize_for(name, cifar10.images[:32])
    model = build_hardware(name, act, bits, "tensor", images, cifar10.labels[:32])
    export_finn(model, images[:1], tmp_path / "out", batch=images[:2], progress=False)
    partition = ModelWrapper(str(tmp_path / "out" / "7_folded.onnx"))
    thresholding = [n.name for n in partition.graph.node if n.op_type == "Thresholding_rtl"]
    batch = images[:IMAGES].permute(0, 2, 3, 1).contiguous()
    report = simulate_rtl(partition, batch, nodes=thresholding)
    assert report.ok, str(report)
    assert [node.name for node in report.simulated] == thresholding
    for node in report.nodes:
        assert node.cycles == node.estimated_cycles
