"""The script that fits the problems which Algorithm 1 is to fit, and what it says of each."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="needs the extra 'algorithm1'")
SOURCE = Path(__file__).resolve().parents[2] / "examples" / "algorithm1.py"
spec = importlib.util.spec_from_file_location("algorithm1_example", SOURCE)
algorithm1 = importlib.util.module_from_spec(spec)
spec.loader.exec_module(algorithm1)
FEASIBLE = [task for task in algorithm1.TASKS if task != "xor-small"]


@pytest.mark.parametrize("task", FEASIBLE)
def test_every_training_row_is_fitted(task, capsys):
    fits = algorithm1.main(["--tasks", task, "--seeds", "1"])
    ((result,),) = fits.values()
    assert result["training error %"] == 0
    assert result["decisions"] < 200
    header, rule, row = capsys.readouterr().out.splitlines()
    assert header.count("|") == rule.count("|") == row.count("|")
    assert row.startswith(f"| {task} |")


def test_one_unit_cannot_do_xor_and_the_table_says_so(capsys):
    algorithm1.main(["--tasks", "xor-small", "--seeds", "2", "--budget", "5"])
    row = capsys.readouterr().out.splitlines()[-1].split(" | ")
    assert row[:4] == ["| xor-small", "1", "50.0", "5"]
    assert row[5] == "0"


def test_the_spirals_are_two_of_97_points_each_that_no_line_separates():
    rows, labels = algorithm1.spirals()
    assert rows.shape == (194, 2)
    assert sorted(labels) == [0] * 97 + [1] * 97
    assert len({tuple(row) for row in rows.round(9)}) == 194
