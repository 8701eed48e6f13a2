"""The notebook runs from its first cell to its last, and brings no output along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CELLS = json.loads((ROOT / "examples" / "tutorial.ipynb").read_text())["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


def test_cells_are_told_apart_and_hold_no_output():
    assert len({cell["id"] for cell in CELLS}) == len(CELLS)
    assert all(not cell.get("outputs") for cell in CELLS)
    for number, code in enumerate(CODE):
        compile(code, f"cell {number}", "exec")


@pytest.mark.slow
def test_the_cells_lead_from_a_stock_network_to_a_verified_partition(tmp_path):
    pytest.importorskip("finn", reason="needs the extra 'finn'")
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(CODE)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    stock, deployable = (
        float(line.partition("%")[0].rpartition(" ")[2])
        for line in ran.stdout.splitlines()
        if line.endswith("of the test digits")
    )
    assert min(stock, deployable) > 85
    # What the stock network lacks, and the other one does not.
    assert "finn: 3 errors" in ran.stdout
    assert "finn: no findings" in ran.stdout
    assert "no differences" in ran.stdout
    report = json.loads((tmp_path / "digits_fpga" / "report.json").read_text())
    assert report["ok"]
    assert [step["same_class"] for step in report["steps"]] == [8] * len(report["steps"])
    assert (tmp_path / "digits_fpga" / "7_folded.onnx").is_file()
