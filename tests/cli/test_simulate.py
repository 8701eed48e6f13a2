"""A FINN partition is built and its RTL simulated."""

from __future__ import annotations

import json
import sys

import pytest

from brevitas_ftprop.export.finn.rtl.tools import find_compiler, find_verilator
from tests.cli.commands import TINY, told

pytest.importorskip("typer.testing", reason="needs the extra 'cli'")


@pytest.mark.slow
def test_a_partition_is_built_and_its_rtl_simulated(run, folder, monkeypatch):
    pytest.importorskip("finn", reason="needs the extra 'finn'")
    pixels = ("--images", "uint8", "--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25")
    result = run(
        "export", "finn", *TINY, "--checkpoint", "good.pt", *pixels, "--result", "class",
        "--target-fps", "5000", "--no-dynamo", "--out", "fpga", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["ok"]
    assert found["target_fps"] == 5000
    assert found["io"]["input"] == "uint8 pixels (1, 8, 8, 3)"
    assert found["io"]["output"] == "class index"
    partition = ("simulate", "fpga/7_folded.onnx", "--node", "Thresholding_rtl_0", "--json")
    if find_verilator() and find_compiler():
        result = run(*partition)
        assert result.exit_code == 0
        (node,) = json.loads(result.stdout)["nodes"]
        assert node["mismatches"] == 0
        assert node["cycles"] == node["estimated_cycles"]
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "verilator", None)
    result = run(*partition[:-1])
    assert result.exit_code == 3
    assert "pip install 'brevitas-ftprop[rtl]', or apt-get install verilator" in told(result)


def test_what_is_no_partition_is_not_simulated(run, exported):
    result = run("simulate", "tiny.onnx")
    assert result.exit_code == 1
    assert "holds no FINN hardware node" in told(result)
