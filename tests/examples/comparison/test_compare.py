"""The whole of a small comparison, interrupted and gone on with."""

from __future__ import annotations

import json

import compare
import pytest

pytestmark = pytest.mark.heavy

RECIPE = """
model: convnet4
model_options: {image_size: 12, channels: [4, 4], fc: 8}
batch_size: 32
epochs: 3
data:
  name: digits
  image_size: 12
  train_images: 64
  test_images: 32
  validation_images: 16
  crop_padding: 0
  flip: false
"""


@pytest.fixture
def recipe(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE)
    return file


def run(recipe, *options: str) -> int:
    fixed = ["--acts", "sign", "--accelerator", "cpu", "--seeds", "1", "--epochs", "1"]
    return compare.main([str(recipe), *fixed, "--out", str(recipe.parent / "out"), *options])


def test_a_comparison_runs_goes_on_and_comes_out_of_its_json(recipe, capsys):
    rules = ["--rules", "saturated_ste", "ste", "--learning-rates", "0.01"]
    assert run(recipe, *rules) == 0
    out = recipe.parent / "out"
    table = (out / "comparison.md").read_text()
    assert table.strip() in capsys.readouterr().out
    assert (out / "comparison.png").is_file()
    stored = json.loads((out / "comparison.json").read_text())
    assert [run["recipe"]["rule"] for run in stored["runs"]] == ["saturated_ste", "ste"]
    assert {run["test_accuracy"] is None for run in stored["tuning"]} == {True}
    one, other = stored["runs"]
    assert one["initial_weights"] == other["initial_weights"]
    assert one["recipe"]["epochs"] == 1

    # Nothing is trained again, and the table is the same from the file alone.
    times = {file: file.stat().st_mtime_ns for file in out.glob("*/*/result.json")}
    assert len(times) == 4
    assert run(recipe, *rules) == 0
    assert times == {file: file.stat().st_mtime_ns for file in out.glob("*/*/result.json")}
    assert compare.main(["--from", str(out / "comparison.json")]) == 0
    assert (out / "comparison.md").read_text() == table

    # Elsewhere and with another reference, it leaves the folder that it reads from alone.
    before = {file: file.read_bytes() for file in out.glob("comparison.*")}
    assert {file.suffix for file in before} == {".csv", ".json", ".md", ".png", ".tex"}
    elsewhere = ["--out", str(recipe.parent / "elsewhere"), "--reference", "STE"]
    assert compare.main(["--from", str(out / "comparison.json"), *elsewhere]) == 0
    assert before == {file: file.read_bytes() for file in out.glob("comparison.*")}
    again = recipe.parent / "elsewhere"
    assert "minus ste" in (again / "comparison.md").read_text()
    _, *rows = (again / "comparison.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows] == ["ste", "saturated_ste"]
    assert rows[0].split(",")[5] == str(100 * other["test_accuracy"])
    assert r"saturated\_ste" in (again / "comparison.tex").read_text()

    recipe.write_text(RECIPE + "optimizer: {weight_decay: 0.01}\n")
    assert run(recipe, *rules) == 2
    assert "another optimizer.weight_decay" in capsys.readouterr().err


def test_setters_are_added_to_a_comparison_of_rules(recipe, capsys):
    rules = ["--rules", "saturated_ste"]
    assert run(recipe, *rules) == 0
    out = recipe.parent / "out"
    (plain,) = out.glob("runs/*/result.json")
    before = plain.stat().st_mtime_ns
    assert run(recipe, *rules, "--targets", "local_search(candidates=1)", "uniform") == 0
    assert plain.stat().st_mtime_ns == before
    runs = json.loads((out / "comparison.json").read_text())["runs"]
    changed = {each["recipe"]["targets"]: len(each["targets_changed"]) for each in runs}
    assert changed == {"gradient_sign": 0, "local_search(candidates=1)": 3, "uniform": 3}
    assert len({each["initial_weights"] for each in runs}) == 1
    table = (out / "comparison.md").read_text()
    assert "| saturated_ste | uniform |" in table
    assert "time a step" in table
    capsys.readouterr()
    assert run(recipe, *rules, "--acts", "staircase3", "--targets", "uniform") == 2
    told = capsys.readouterr().err
    assert "staircase3-saturated_ste-uniform: ConvNet4 has no sign quantizers" in told


def test_seeds_lists_and_fields_of_the_recipe_are_spelt_as_for_the_trainer(recipe, capsys):
    options = ["--seeds", "1-2", "--rules", "stock,soft_hinge", "--optimizer.lr=0.01"]
    assert run(recipe, *options, "--data-test_images", "16", "--data.mean", "0.5,0.4,0.3") == 0
    out = recipe.parent / "out"
    runs = json.loads((out / "comparison.json").read_text())["runs"]
    assert {(run["recipe"]["rule"], run["recipe"]["seed"]) for run in runs} == {
        (rule, seed) for rule in ("stock", "soft_hinge") for seed in (1, 2)
    }
    assert {run["recipe"]["optimizer"]["lr"] for run in runs} == {0.01}
    assert {run["images"]["test"] for run in runs} == {16}
    assert runs[0]["recipe"]["data"]["mean"] == [0.5, 0.4, 0.3]
    told = capsys.readouterr()
    # The default reference is one of the rules; what a run prints is in its folder.
    assert "minus stock" in told.out
    assert "run 3 of 4: sign-stock-lr0.01-seed2" in told.out
    assert "left" in told.out
    assert "Warning" not in told.out
    assert (out / "runs" / "sign-stock-lr0.01-seed1" / "output.txt").is_file()


def test_an_own_rule_is_added_to_a_comparison(recipe, own_module):
    assert run(recipe, "--rules", "saturated_ste") == 0
    assert run(recipe, "--rules", "saturated_ste", "myrules:Laplace") == 0
    stored = json.loads((recipe.parent / "out" / "comparison.json").read_text())["runs"]
    imports = {each["recipe"]["rule"]: list(each["recipe"]["imports"]) for each in stored}
    assert imports == {"saturated_ste": [], "laplace": ["myrules"]}


def test_what_would_run_does_not_go_with_stored_runs(tmp_path, capsys):
    assert compare.main(["--from", str(tmp_path / "comparison.json"), "--seeds", "1-2"]) == 2
    told = capsys.readouterr().err
    assert "--from shows runs that are there already: --seeds would change nothing" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rules", "no_such_rule"], "no_such_rule"),
        (["--learning-rates", "0.1", "--data-root", "x", "--rules", "ste", "ste"], "twice"),
        (["--seeds", "0"], "one seed"),
        (["--seeds", "1,1"], "seeds holds one twice: 1, 1"),
        (["--rule", "ste"], "--rule is what is compared: give --rules"),
        (["--optimizer.lrr", "1"], "no option --optimizer.lrr; did you mean --optimizer.lr?"),
        (["--rules", "no_such"], "stock"),
        (["--optimizer.lr", "fast"], "optimizer.lr"),
        (["--jobs", "0"], "jobs must be 1 or more"),
        (["--reference", "ramp"], "--reference ramp is none of the rules"),
        (["--targets", "no_such", "--data-root", "/nowhere"], "unknown target setter 'no_such'"),
        (
            ["--acts", "sign", "foo"],
            "foo-saturated_ste: convnet4 does not take its options",
        ),
        (["--targets", "uniform"], "none of the rules to compare with gradient_sign"),
    ],
)
def test_bad_input_is_one_sentence(recipe, capsys, options, message):
    assert run(recipe, *options) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.err.startswith("compare.py: error: ")
    assert "Traceback" not in told.err
    assert told.out == ""
    assert not (recipe.parent / "out").exists()


def test_a_gpu_that_is_not_there_is_told_before_anything_runs(recipe, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run(recipe, "--accelerator", "gpu") == 2
    assert "--accelerator gpu: PyTorch finds no GPU here" in capsys.readouterr().err
    assert not (recipe.parent / "out").exists()


def test_trials_that_fail_end_with_1(recipe, capsys, monkeypatch):
    def fail(*_):
        raise compare.TrialsError("sign-ste: the loss is not finite")

    monkeypatch.setattr(compare, "execute", fail)
    assert run(recipe, "--rules", "ste") == 1
    assert "compare.py: error: sign-ste: the loss" in capsys.readouterr().err


def test_an_interruption_is_told_on_stderr(recipe, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "execute", interrupt)
    assert run(recipe, "--rules", "saturated_ste") == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err
