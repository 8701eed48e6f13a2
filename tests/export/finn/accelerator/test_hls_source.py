"""What FINN writes for layers in HLS is compiled and compared, where there is a finn-hlslib.

The library here has one layer, written for the test; FINN's own is compared by the tests of layers,
with its folder in BREVITAS_FTPROP_HLSLIB, at the commit that ``finn/interface`` names:

    BREVITAS_FTPROP_HLSLIB=finn-hlslib pytest tests/export/finn/accelerator/test_layers.py
"""

from __future__ import annotations

import sys

import numpy as np
import pytest

from .conftest import HLSLIB

DOOR = """
#include <ap_int.h>
#include <hls_stream.h>
#include <hls_vector.h>
"""
DUPLICATES = """
template <class Value>
void StreamingDup(hls::stream<Value>& in, hls::stream<Value>& first, hls::stream<Value>& second) {
    if (in.empty()) return;
    Value value = in.read();
    first.write(value);
    // Changed where a copy is wrong.
    second.write(value);
}
"""


@pytest.fixture
def library(tmp_path):
    pytest.importorskip("hls4ml", reason="needs the extra 'hls4ml'")
    (tmp_path / "bnn-library.h").write_text(DOOR)
    (tmp_path / "dup.hpp").write_text(DUPLICATES)
    return tmp_path


@pytest.fixture
def made(graph, random_values):
    made = graph("INT4", (1, 2, 2, 6)).duplicate("fork", "image", pe=3)
    made.combine("Add", "sum", "fork_0", "fork_1", "INT5", pe=3)
    return made.build(), random_values("INT4", (2, 2, 2, 6), np.random.default_rng(0))


def test_the_report_says_which_layers_were_compared_and_why_others_were_not(
    simulate, made, library
):
    report = simulate(*made, hlslib=library)
    assert report.ok, str(report)
    assert [node.runs_as for node in report.nodes] == ["C++ = finn-hlslib", "C++ model"]
    assert report.modelled == ["fork", "sum"]
    assert list(report.uncompared) == ["sum"]
    assert "flatten.hpp: No such file" in str(report)


@pytest.mark.parametrize(
    ("wrong", "element"),
    [("value[1] = value[1] - 1;", 1), ("static int n; if (n++ == 5) return;", None)],
)
def test_c_plus_plus_of_finn_that_gives_something_else_is_named(
    simulate, made, library, wrong, element
):
    text = DUPLICATES.replace("// Changed", f"{wrong} //")
    (library / "dup.hpp").write_text(text)
    report = simulate(*made, hlslib=library, frames=4)
    assert not report.ok
    (fault,) = report.faults
    assert fault.name == "FINN's C++ of fork"
    _, second = (fifo.name for fifo in report.fifos if fifo.producer == "fork")
    assert fault.stream == second
    if element is not None:
        assert (fault.frame, fault.transaction, fault.element) == (0, 0, element)
        assert fault.found == (fault.expected - 1 + 8) % 16 - 8
        assert fault.wrong == 2 * 2 * 2 * 2
    assert "FINN's C++ of fork is at fault" in str(report)


def test_finns_folder_of_dependencies_is_looked_into(simulate, made, library, monkeypatch):
    from finn.util import settings

    monkeypatch.setenv("FINN_DEPS", str(library))
    monkeypatch.setattr(settings, "_SETTINGS", None)
    (library / "finn-hlslib").mkdir()
    for name in ("bnn-library.h", "dup.hpp"):
        (library / name).rename(library / "finn-hlslib" / name)
    report = simulate(*made, hlslib=None)
    assert report.nodes[0].runs_as == "C++ = finn-hlslib"


def test_what_is_no_finn_hlslib_is_refused(simulate, made, library, monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no bnn-library\.h: give the folder of finn"):
        simulate(*made, hlslib=tmp_path / "nowhere")
    monkeypatch.setitem(sys.modules, "hls4ml", None)
    with pytest.raises(ImportError, match="pip install 'brevitas-ftprop"):
        simulate(*made, hlslib=library)


@pytest.mark.skipif(HLSLIB is None, reason="BREVITAS_FTPROP_HLSLIB names no folder of finn-hlslib")
def test_a_network_gives_what_finn_hlslib_does(simulate, exported):
    folder, images, _ = exported
    report = simulate(folder, images)
    assert report.ok, str(report)
    assert not report.uncompared
    assert any(node.runs_as == "C++ = finn-hlslib" for node in report.nodes)
