"""Each rewrite finds its place in FINN's sources, and touches nothing else."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from brevitas_ftprop.export.finn.environment import finn_environment
from brevitas_ftprop.export.finn.rtl.dialect import readable


def library() -> Path:
    from finn.util.settings import get_settings

    with finn_environment():
        return Path(get_settings().finn_rtllib)


@pytest.mark.parametrize(
    ("file", "gone"),
    [
        ("mvu/mvu.sv", "posedge clk iff"),
        ("mvu/mvu_vvu_axi.sv", "{ odat, OBuf[0:MAX_IN_FLIGHT-1] }"),
        ("mvu/add_multi.sv", "typedef int unsigned  leaf_load_t"),
        ("fmpadding/hdl/fmpadding.sv", "typedef struct {"),
    ],
)
def test_what_verilator_cannot_read_is_rewritten_in_a_few_lines(file, gone):
    before = (library() / file).read_text()
    after = readable(before)
    assert gone in before
    assert gone not in after
    changed = [
        line
        for line in difflib.unified_diff(before.splitlines(), after.splitlines(), n=0)
        if line[0] in "+-" and line[:3] not in ("+++", "---")
    ]
    # add_multi.sv moves a function of eight lines.
    assert len(changed) <= 30


@pytest.mark.parametrize(
    "file", ["thresholding/hdl/thresholding.sv", "mvu/replay_buffer.sv", "swg/swg_common.sv"]
)
def test_other_sources_stay_as_they_are(file):
    source = (library() / file).read_text()
    assert readable(source) == source
