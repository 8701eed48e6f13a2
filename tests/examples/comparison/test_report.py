"""A table says what the runs say, and comes out of its JSON again."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest
from comparison.figures import draw
from comparison.report import Comparison
from comparison.tables import csv_table, latex_table
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


def test_the_same_numbers_are_there_for_spreadsheets_and_papers(comparison):
    _, soft_hinge, _ = csv.DictReader(csv_table(comparison).splitlines())
    theirs = stats.ttest_rel([63, 64, 66], [60, 62, 61])
    assert soft_hinge["rule"] == "soft_hinge"
    assert float(soft_hinge["test_accuracy"]) == pytest.approx(64.25)
    assert float(soft_hinge["p"]) == pytest.approx(theirs.pvalue)
    lines = latex_table(comparison).splitlines()
    assert r"activation & rule & learning rate & seeds & test accuracy \% &" in lines[3]
    assert [line.count(" & ") for line in lines if line.endswith(r"\\")] == [7] * 4
    assert r"sign & soft\_hinge & 0.001 & 4 & 64.25 (" in lines[6]


def test_why_equal_rules_differ_stands_under_the_table_where_they_do(comparison, result):
    reason = "sums of gradients run in another order"
    equal = [result("stock", seed, accuracy) for seed, accuracy in SSTE.items()]
    assert reason not in replace(comparison, runs=(*comparison.runs, *equal)).table()
    differing = [*equal[1:], result("stock", 0, 0.601)]
    assert reason in replace(comparison, runs=(*comparison.runs, *differing)).table()


def searched(comparison: Comparison, result, **costs) -> Comparison:
    """The comparison with runs of soft hinge and a setter, which cost more."""
    plain = [replace(run, step_seconds=0.1 + 0.01 * run.recipe["seed"]) for run in comparison.runs]
    extra = [
        replace(result("soft_hinge", seed, 0.7, targets="uniform"), step_seconds=0.3, **costs)
        for seed in range(3)
    ]
    return replace(comparison, runs=(*plain, *extra))


def rows_of(comparison: Comparison) -> list[dict[str, str]]:
    titles, _, *rows = map(cells, comparison.table().split("\n\n")[0].splitlines())
    return [dict(zip(titles, row, strict=True)) for row in rows]


def test_a_setter_has_a_row_of_its_own_with_what_it_costs(comparison, result):
    reference, soft_hinge, uniform, ste = rows_of(searched(comparison, result))
    assert [r["targets"] for r in (reference, soft_hinge, ste)] == ["gradient_sign"] * 3
    assert reference["minus saturated_ste"] == ""
    assert (uniform["rule"], uniform["targets"]) == ("soft_hinge", "uniform")
    assert uniform["minus saturated_ste"].startswith("+9.00 (")
    # The median of soft hinge's four seeds is 0.115 s.
    assert uniform["time a step"] == f"{0.3 / 0.115:.2f} ×"
    assert soft_hinge["time a step"] == "1.00 ×"
    assert "peak memory" not in uniform


def test_what_a_search_left_is_named_below_the_table(comparison, result):
    assert "Left at gradient_sign" not in searched(comparison, result).table()
    reason = {"network.5.act_quant": "it has more than two levels"}
    told = searched(comparison, result, targets_left=reason).table()
    assert "Left at gradient_sign, for reasons in the JSON: network.5.act_quant. " in told


def test_memory_is_told_where_it_was_measured(comparison, result):
    with_memory = searched(comparison, result, peak_bytes=300)
    runs = tuple(replace(run, peak_bytes=run.peak_bytes or 200) for run in with_memory.runs)
    *_, uniform, _ = rows_of(replace(with_memory, runs=runs))
    assert uniform["peak memory"] == "1.50 ×"
    # There is nothing to relate it to.
    assert "peak memory" not in rows_of(with_memory)[0]


def test_a_table_without_setters_says_nothing_of_them(comparison):
    assert list(rows_of(comparison)[0]) == [
        "activation", "rule", "learning rate", "seeds", "test accuracy %", "minus saturated_ste",
        "p", "p (Holm)",
    ]  # fmt: skip
    assert "gradient_sign" not in comparison.table()


def test_holms_adjustment_counts_the_setters(comparison, result):
    plain, setters = (
        [row for row in each.rows("sign") if row.difference is not None and row.difference.p]
        for each in (comparison, searched(comparison, result))
    )
    assert len(setters) == len(plain) + 1
    lowest = min(setters, key=lambda row: row.difference.p)
    assert lowest.difference.p_holm == pytest.approx(lowest.difference.p * len(setters))


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
    runs = (result(), result("hinge", targets="uniform"))
    with pytest.raises(ValueError, match="rule hinge has no run with targets gradient_sign"):
        Comparison(runs, (), "hinge")


def test_figures_are_drawn(comparison, result, tmp_path):
    draw(searched(comparison, result), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_says_what_its_bands_and_intervals_are_and_of_how_many_runs(result, tmp_path):
    runs = [result(rule, seed) for rule in ("saturated_ste", "ramp") for seed in range(3)]
    draw(Comparison(tuple(runs), (), "saturated_ste"), tmp_path / "figure.svg")
    drawing = (tmp_path / "figure.svg").read_text()
    for told in ("6 runs.", "bands from the worst seed", "95 % intervals", "(n = 3)", "3 pairs"):
        assert told in drawing
