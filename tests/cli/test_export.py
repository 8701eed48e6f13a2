"""Files are written whole or not at all, from a model and a checkpoint that fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.cli.commands import FLAGS, SMALL, TINY, told

pytest.importorskip("typer.testing", reason="needs the extra 'cli'")


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        ("evil.pt", "holds pickled Python objects"),
        ("script.pt", "holds pickled Python objects"),
        ("garbage.pt", "is damaged, or no checkpoint"),
        ("empty.pt", "is damaged, or no checkpoint"),
        ("cut.pt", "is damaged, or no checkpoint"),
        ("no_state.pt", "holds no state dict"),
        ("none.pt", "there is no checkpoint none.pt"),
        ("wider.pt", "another model: of another shape features.conv1.weight (5, 4, 5, 5) instead"),
        ("small.pt", "another model: missing features."),
        ("nan.pt", "classifier.fc0.weight holds values that are not finite"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_and_no_code_in_it_runs(
    run, folder, checkpoint, words
):
    arguments = (*TINY, "--checkpoint", checkpoint, "--out", "refused.onnx")
    result = run("export", "qonnx", *arguments, *FLAGS)
    assert result.exit_code == 2
    assert words in told(result)
    assert not list(folder.glob("*refused*"))
    assert not (folder / "pickled code ran").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cli_nets",), "package.module:factory"),
        (("no_nets:tiny",), "there is no module 'no_nets'"),
        (("cli_nets:tinny",), "did you mean cli_nets:tiny?"),
        (("cli_nets:a_number",), "is a int, neither a factory nor a model"),
        (("cli_nets:failing",), "KeyError: 'nothing' ("),
        (("cli_nets:small", "--arg", "act=sign"), "unexpected keyword argument 'act'"),
        (("cli_nets:small", "--arg", "act"), "write --arg key=value"),
        (("cli_nets:tiny", "--arg", "act=[1"), "neither a Python literal nor a word"),
        (("cli_nets:a_model", "--arg", "act=1"), "takes no --arg"),
        (("cli_nets:a_float_model",), "no enabled Brevitas quantizer"),
        (("cli_nets:small", "--rule", "no_rule"), "unknown rule 'no_rule'; valid are adaline"),
        (("cli_nets:small", "--out", "none/x.onnx"), "none does not exist"),
        (("cli_nets:small", "--out", "cli_nets.py"), "pass --overwrite to replace it"),
        (("cli_nets:small", "--out", "/proc/x.onnx"), "/proc"),
        (("cli_nets:small", "--input-shape", "1,5"), "cannot take an input of shape (1, 5)"),
        (("cli_nets:small", "--batch", "three.npy"), "no number of batches of (1, 4)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_wrong_input_is_told_in_one_sentence(run, arguments, words):
    defaults = ("--input-shape", "1,4", "--out", "refused.onnx")
    result = run("export", "qcdq", *defaults, *arguments, *FLAGS, "--untrained")
    assert words in told(result)
    assert result.exit_code == 2


def test_an_interrupted_export_ends_with_130_and_leaves_nothing(run, folder):
    before = sorted(folder.iterdir())
    arguments = ("cli_nets:interrupted", "--input-shape", "1,4", "--out", "half.onnx")
    result = run("export", "qonnx", *arguments, *FLAGS, "--untrained")
    assert result.exit_code == 130
    assert result.stdout == ""
    assert [p for p in sorted(folder.iterdir()) if p not in before if p.name != "__pycache__"] == []


def test_a_file_is_written_without_verification_and_replaced_when_told(run, folder):
    for extra in ((), ("--overwrite",)):
        arguments = ("cli_nets:a_model", "--input-shape", "1,4", "--out", "plain.onnx", *extra)
        arguments += ("--untrained",)
        result = run("export", "qcdq", *arguments, "--no-dynamo", "--no-verify", "--json")
        assert result.exit_code == 0
        assert json.loads(result.stdout)["verification"] is None
    assert (folder / "plain.onnx").is_file()


@pytest.mark.parametrize("kind", ["qonnx", "qcdq", "finn", "hls4ml"])
def test_weights_that_nobody_trained_are_exported_only_where_that_is_asked_for(run, folder, kind):
    result = run("export", kind, *SMALL, "--out", "random")
    assert result.exit_code == 2
    assert "pass --checkpoint FILE, --run FOLDER, or --untrained" in told(result)
    both = run("export", kind, *SMALL, "--out", "random", "--untrained", "--checkpoint", "small.pt")
    assert both.exit_code == 2
    assert "exclude each other" in told(both)
    assert not (folder / "random").exists()


def test_a_file_of_untrained_weights_says_so_first_and_one_of_a_checkpoint_does_not(run):
    arguments = ("export", "qonnx", *SMALL, "--out", "random.onnx", *FLAGS, "--overwrite")
    shown = run(*arguments, "--untrained")
    assert shown.exit_code == 0
    assert shown.stdout.startswith("untrained: no checkpoint was given")
    assert json.loads(run(*arguments, "--untrained", "--json").stdout)["untrained"] is True
    trained = (*arguments, "--checkpoint", "small.pt")
    assert "untrained" not in run(*trained).stdout
    assert json.loads(run(*trained, "--json").stdout)["untrained"] is False


def test_quantizers_are_swapped_before_the_checkpoint_is_loaded(run):
    from brevitas_ftprop.cli.loading import load_model

    model = load_model("cli_nets:small", rule="SSTE", checkpoint=Path("small.pt"))
    assert model[2].act_quant.rule == "saturated_ste"
    assert torch.equal(model[1].weight, torch.load("small.pt")["1.weight"])


def test_a_model_without_a_checkpoint_is_the_same_in_every_run(run):
    from brevitas_ftprop.cli.loading import load_model

    one, other = (load_model("cli_nets:small") for _ in range(2))
    assert torch.equal(one[1].weight, other[1].weight)


@pytest.mark.slow
def test_an_hls4ml_project_is_written_and_simulated(run, folder):
    pytest.importorskip("hls4ml", reason="needs the extra 'hls4ml'")
    if shutil.which("g++") is None:
        pytest.skip("needs g++: apt-get install g++")
    arguments = (*TINY, "--checkpoint", "good.pt", "--clock-ns", "4", "--strategy", "resource")
    result = run("export", "hls4ml", *arguments, "--out", "project", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["ok"]
    assert found["same_class"] == found["images"] > 0
    assert (folder / "project" / "hls4ml_config.yml").is_file()
