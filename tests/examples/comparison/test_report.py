"""A table says what the runs say, and comes out of its JSON again."""

from __future__ import annotations

import json

import pytest
from comparison.figures import draw
from comparison.report import Comparison
from scipy import stats

SSTE = {0: 0.60, 1: 0.62, 2: 0.61}
SOFT_HINGE = {0: 0.63, 1: 0.64, 2: 0.66, 3: 0.64}


@pytest.fixture
def comparison(result) -> Comparison:
    runs = [result("saturated_ste", seed, accuracy) for seed, accuracy in SSTE.items()]
    runs += [result("soft_hinge", seed, accuracy) for seed, accuracy in SOFT_HINGE.items()]
    runs += [result("ste", seed, 0.5) for seed in (0, 1)]
    return Comparison(tuple(runs), (), "saturated_ste")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_the_table_has_the_arms_numbers(comparison):
    _, _, reference, soft_hinge, ste, *_ = map(cells, comparison.table().splitlines())
    assert reference[:2] == ["sign", "saturated_ste"]
    assert reference[4].startswith("61.00 (")
    assert reference[5:] == ["", "", ""]
    theirs = stats.ttest_rel([63, 64, 66], [60, 62, 61])
    assert soft_hinge[:4] == ["sign", "soft_hinge", "0.001", "4"]
    assert soft_hinge[5].startswith("+3.33 (")
    assert soft_hinge[6] == f"{theirs.pvalue:.3f}"
    assert ste[5].startswith("-11.00 (")


def test_it_comes_out_of_its_json_again(comparison, tmp_path):
    comparison.write(tmp_path / "comparison.json")
    assert Comparison.read(tmp_path / "comparison.json").table() == comparison.table()


def test_a_stored_comparison_is_checked_again(comparison, tmp_path):
    file = tmp_path / "comparison.json"
    comparison.write(file)
    values = json.loads(file.read_text())
    values["runs"][3]["recipe"]["optimizer"]["weight_decay"] = 1e-3
    file.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"optimizer\.weight_decay"):
        Comparison.read(file)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"runs": [{"curve": []}]}'])
def test_a_file_that_is_no_comparison_is_named(tmp_path, text):
    path = tmp_path / "comparison.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"comparison\.json is not a comparison"):
        Comparison.read(path)


def test_a_reference_without_runs_is_refused(result):
    with pytest.raises(ValueError, match="reference rule hinge has no run"):
        Comparison((result(),), (), "hinge")


def test_figures_are_drawn(comparison, tmp_path):
    draw(comparison, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
