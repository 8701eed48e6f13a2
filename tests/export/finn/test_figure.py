"""The pipeline's bars carry the names of the model."""

from __future__ import annotations

from types import SimpleNamespace

import pytest


def test_a_hardware_node_is_drawn_with_the_quantizer_or_layer_that_it_computes(tmp_path):
    pytest.importorskip("finn", reason="needs the extra 'finn'")
    from brevitas_ftprop.export.finn.figure import draw_dataflow

    layers = {
        "Thresholding_rtl_0": {"quantizer": "features.act0.act_quant", "cycles": 64, "LUT": 10},
        "MVAU_rtl_0": {"quantizer": None, "model layer": "conv1", "cycles": 128, "LUT": 20},
        "LabelSelect_hls_0": {"quantizer": None, "model layer": None, "cycles": 3, "LUT": 1},
    }
    report = SimpleNamespace(
        layers=layers, resources={"LUT": 30}, performance={}, fpga_part="part", clock_ns=5.0
    )
    draw_dataflow(report, tmp_path / "dataflow.svg")
    drawing = (tmp_path / "dataflow.svg").read_text()
    assert "<!-- Thresholding_rtl_0  (features.act0.act_quant) -->" in drawing
    assert "<!-- MVAU_rtl_0  (conv1) -->" in drawing
    assert "<!-- LabelSelect_hls_0 -->" in drawing
