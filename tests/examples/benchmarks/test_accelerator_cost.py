"""The benchmark of a whole accelerator's simulation in its smallest form."""

from __future__ import annotations

import accelerator
import pytest

from brevitas_ftprop.export.finn.rtl.tools import find_compiler, find_verilator

pytestmark = pytest.mark.heavy


@pytest.mark.slow
def test_compilation_frames_and_what_they_are_for_are_told(record_of):
    pytest.importorskip("finn", reason="needs FINN: pip install 'brevitas-ftprop[finn]'")
    if find_verilator() is None or find_compiler() is None:
        pytest.skip("needs the extra 'rtl' (or verilator) and a C++ compiler")
    record = record_of(accelerator, "--networks", "small", "--frames", "2")
    (row,) = record["rows"]
    assert row["network"] == "small"
    assert row["nodes"] == 17
    assert row["compilation_seconds"] > row["frame_seconds"] > 0
    assert {"MVAU_hls", "Thresholding_rtl", accelerator.REST} <= row["effort"].keys()
    assert sum(row["effort"].values()) == pytest.approx(1)
    assert "| small | 17 |" in record["page"]


def test_what_cannot_be_measured_is_refused(sentence_of):
    assert "--frames must be positive, not 0" in sentence_of(accelerator, "--frames", "0")
