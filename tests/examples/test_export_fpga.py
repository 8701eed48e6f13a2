"""The way to the FPGA in its small form: what it trains is what it compiles."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

SOURCE = Path(__file__).resolve().parents[2] / "examples" / "export_fpga.py"

pytest.importorskip("finn", reason="needs the extra 'finn'")
pytest.importorskip("sklearn", reason="needs the extra 'examples'")


@pytest.fixture(scope="module")
def export_fpga():
    spec = importlib.util.spec_from_file_location("export_fpga", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_its_fast_form_ends_in_a_verified_accelerator(export_fpga, tmp_path, capsys):
    assert export_fpga.main(["--fast", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "finn: no findings" in printed
    assert "estimated" in printed
    report = json.loads((tmp_path / "accelerator" / "report.json").read_text())
    assert report["ok"]
    assert report["steps"][-1]["compared"] > 1000
    assert report["io"]["input"] == "uint8 pixels (1, 16, 16, 3)"
    # The command line names this factory and this file.
    trained = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    export_fpga.build_model().load_state_dict(trained)


def test_its_digits_are_uint8_pixels(export_fpga):
    pixels, labels = export_fpga.digits()
    assert pixels.shape == (1797, 3, 16, 16)
    assert pixels.dtype == torch.uint8
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert labels.unique().tolist() == list(range(10))
