"""Partitions of whole converted networks: every RTL node gives the executor's values."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from brevitas_ftprop.export.finn.rtl import simulate_rtl

from .conftest import needs_verilator

FOLDER = "BREVITAS_FTPROP_PARTITIONS"
IMAGES = 2


def partitions() -> list[Path]:
    return sorted(Path(os.environ[FOLDER]).glob("*.onnx")) if FOLDER in os.environ else []


@needs_verilator
@pytest.mark.slow
@pytest.mark.skipif(not partitions(), reason=f"needs partitions in the folder named by {FOLDER}")
@pytest.mark.parametrize("path", partitions(), ids=lambda path: path.stem)
def test_every_thresholding_node_of_a_converted_network_gives_the_executors_values(path):
    from qonnx.core.modelwrapper import ModelWrapper

    model = ModelWrapper(str(path))
    thresholding = [n.name for n in model.graph.node if n.op_type == "Thresholding_rtl"]
    shape = model.get_tensor_shape(model.graph.input[0].name)
    batch = np.random.default_rng(0).normal(size=(IMAGES, *shape[1:])).astype(np.float32)
    report = simulate_rtl(model, batch, nodes=thresholding)
    assert report.ok, str(report)
    assert [node.name for node in report.simulated] == thresholding
    for node in report.nodes:
        assert node.cycles == node.estimated_cycles
