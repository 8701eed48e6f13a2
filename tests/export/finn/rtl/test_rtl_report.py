"""The report says what was compared, what differs, and what was left out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from brevitas_ftprop.export.finn.rtl.design import Design, Port
from brevitas_ftprop.export.finn.rtl.rtl_report import Difference, NodeReport, RtlReport
from brevitas_ftprop.export.finn.rtl.stream_comparison import compare
from brevitas_ftprop.export.finn.rtl.streams import Element, pack
from brevitas_ftprop.export.finn.rtl.verilator import Recording

ELEMENT = Element(4, "signed")
EXPECTED = np.arange(-8, 8).reshape(8, 2)


@pytest.fixture
def node(tmp_path):
    port = Port(ELEMENT, (4, 2))
    design = Design(tmp_path, (), source=port, sink=port, estimated_cycles=4)

    def compared(values) -> NodeReport:
        report = NodeReport("act", "Thresholding_rtl")
        taken_at = np.arange(len(values))
        recording = Recording(pack(values, ELEMENT), taken_at, first_input=0, unstable=0)
        compare(recording, EXPECTED, design, images=2, report=report)
        return report

    return compared


def test_equal_values_are_counted_and_do_not_differ(node):
    report = node(EXPECTED)
    assert (report.transactions, report.values, report.mismatches) == (8, 16, 0)
    assert report.ok
    assert report.difference is None


def test_a_wrong_value_is_named_with_its_image_and_place(node):
    values = EXPECTED.copy()
    values[5, 1] = 7
    report = node(values)
    assert report.mismatches == 1
    assert not report.ok
    assert report.difference == Difference(1, 1, 1, expected=3, found=7)


def test_missing_transactions_differ_in_every_value(node):
    report = node(EXPECTED[:6])
    assert report.mismatches == 4
    assert report.difference == Difference(1, 2, 0, expected=4, found=None)


def test_surplus_transactions_differ_in_every_value(node):
    report = node(np.concatenate([EXPECTED, EXPECTED[:1]]))
    assert report.mismatches == 2
    assert not report.ok


def full_report() -> RtlReport:
    nodes = [
        NodeReport("act", "Thresholding_rtl", 8, 16, cycles=4, estimated_cycles=4, latency=9),
        NodeReport("fc", "MVAU_hls", reason="HLS only"),
        NodeReport("pool", "Pool_hls", reason="HLS only"),
        NodeReport(
            "mvu", "MVAU_rtl", 8, 16, 1, unstable=2, difference=Difference(0, 3, 1, 5.0, None)
        ),
    ]
    return RtlReport(images=2, nodes=nodes, builds=2)


def test_the_table_names_every_simulated_node_and_why_the_others_are_not():
    text = str(full_report())
    for part in ("act", "mvu", "1 MVAU_hls, 1 Pool_hls (HLS only)", "2 cycles"):
        assert part in text
    assert "image 0, transaction 3, element 1: expected 5, found -" in text
    assert text.endswith(
        "2 of 4 nodes simulated on 2 images, 2 builds, 1 differences, 1 nodes at fault"
    )


def test_the_report_survives_json():
    report = full_report()
    again = json.loads(json.dumps(report.as_dict()))
    assert again["ok"] is False
    assert again["mismatches"] == 1
    assert [node["name"] for node in again["nodes"]] == ["act", "fc", "pool", "mvu"]
    assert again["nodes"][3]["difference"]["expected"] == 5.0


def test_a_report_without_simulated_nodes_is_not_ok():
    assert not RtlReport(images=1, nodes=[NodeReport("fc", "MVAU_hls", reason="HLS only")]).ok
