"""What scripts rely on: exit codes, stdout that holds results only, a sentence for each mistake."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from brevitas_ftprop import cli
from brevitas_ftprop.rules import RULES

typer_testing = pytest.importorskip("typer.testing", reason="needs the extra 'cli'")

REPO = Path(__file__).resolve().parent.parent
# The factories that a user would have in the current directory.
NETS = '''
import os
import torch
from brevitas import nn as qnn
from brevitas.quant import SignedBinaryActPerTensorConst
from brevitas_ftprop.models import ConvNet4


def tiny(act="staircase3", width=4):
    print("from Python")
    os.write(1, b"from native code\\n")
    return ConvNet4(10, 8, channels=(4, width), fc=8, form="hardware", act=act)


class Wrong(torch.nn.Sequential):
    """Interrupted in its second run, the first of the export."""

    runs = 0

    def forward(self, x):
        Wrong.runs += 1
        if Wrong.runs == 2:
            raise KeyboardInterrupt
        return super().forward(x)


def small():
    return torch.nn.Sequential(
        qnn.QuantIdentity(),
        qnn.QuantLinear(4, 4, bias=False),
        qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst),
        qnn.QuantLinear(4, 2, bias=False),
    )


def interrupted():
    return Wrong(*small())


def unquantized_input():
    return qnn.QuantLinear(4, 2, bias=False)


def failing():
    return {}["nothing"]


a_model = small()
a_float_model = torch.nn.Linear(4, 2)
a_number = 1
'''
TINY = ("cli_nets:tiny", "--input-shape", "1,3,8,8")
SMALL = ("cli_nets:small", "--input-shape", "1,4")
FLAGS = ("--no-dynamo", "--images", "2")


class Evil:
    def __reduce__(self):
        return os.mkdir, ("pickled code ran",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's folder: a module, and checkpoints, batches and a file that are good or bad."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "cli_nets.py").write_text(NETS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        import cli_nets

        patch.delitem(sys.modules, "cli_nets")
        torch.manual_seed(1)
        state = cli_nets.tiny().state_dict()
        torch.save(state, "good.pt")
        wrapped = {f"_orig_mod.model.{key}": value for key, value in state.items()}
        torch.save({"state_dict": wrapped, "epoch": 3}, "wrapped.pt")
        torch.save({"model": state}, "under_model.pt")
        torch.save({"model": state, "hook": Evil()}, "evil.pt")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), "script.pt")
        torch.save(cli_nets.tiny(width=5).state_dict(), "wider.pt")
        small = cli_nets.small()
        # The scales of its activations come from what it sees.
        small(torch.randn(8, 4))
        torch.save(small.state_dict(), "small.pt")
        torch.save({"epoch": 3}, "no_state.pt")
        Path("garbage.pt").write_bytes(b"not a checkpoint")
        Path("empty.pt").touch()
        Path("cut.pt").write_bytes(Path("good.pt").read_bytes()[:3000])
        torch.save({**state, "classifier.fc0.weight": torch.full((8, 16), torch.nan)}, "nan.pt")
        np.save("three.npy", np.random.randn(3, 3, 8, 8))
        np.save("objects.npy", np.array([{}], dtype=object))
        Path("damaged.onnx").write_bytes(b"\x08\x07not an ONNX file")
    return folder


@pytest.fixture
def run(folder, monkeypatch):
    """Run a command in the user's folder; any exception that is not an exit is raised."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "cli_nets", raising=False)
    from brevitas_ftprop.cli.app import app

    def run(*arguments: str):
        result = typer_testing.CliRunner().invoke(app, list(map(str, arguments)))
        if not isinstance(result.exception, SystemExit | None):
            raise result.exception
        return result

    return run


@pytest.fixture(scope="module")
def exported(folder):
    """A QONNX file in batches of two, written by the command itself in a process of its own."""
    command = [sys.executable, "-m", "brevitas_ftprop", "export", "qonnx", "cli_nets:tiny"]
    options = ["--checkpoint", "wrapped.pt", "--input-shape", "2,3,8,8", "--out", "tiny.onnx"]
    finished = subprocess.run(
        [*command, *options, *FLAGS, "--json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    return finished


def told(result) -> str:
    """The one sentence of a failed command, which printed nothing but that."""
    assert result.stdout == ""
    (sentence,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert "Traceback" not in result.stderr
    return sentence


def test_json_on_stdout_is_one_object_whatever_the_model_prints(exported, folder):
    found = json.loads(exported.stdout)
    assert found["ok"]
    assert found["path"] == "tiny.onnx"
    assert found["verification"]["mismatches"] == 0
    assert found["verification"]["outputs"][0]["images"] == 2
    assert (folder / "tiny.onnx").is_file()
    for printed in ("from Python", "from native code", "verifying on 2 images"):
        assert printed in exported.stderr


@pytest.mark.parametrize("checkpoint", ["good.pt", "under_model.pt"])
def test_the_file_is_verified_with_each_form_of_its_checkpoint(run, exported, checkpoint):
    arguments = ("tiny.onnx", "cli_nets:tiny", "--checkpoint", checkpoint, "--images", "3")
    result = run("verify", *arguments)
    assert result.exit_code == 0
    assert "same class 4 of 4" in result.stdout
    assert "no differences" in result.stdout


def test_a_file_of_other_weights_is_a_difference(run, exported):
    result = run("verify", "tiny.onnx", "cli_nets:tiny", "--json", "--images", "2")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert not found["ok"]
    assert found["first_difference"] is not None


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("damaged.onnx", "cli_nets:tiny"), 1, "is not an ONNX file, or is damaged"),
        (("none.onnx", "cli_nets:tiny"), 2, "none.onnx does not exist"),
        (("tiny.onnx", "cli_nets:small"), 1, "exported from another architecture"),
        (("tiny.onnx", "cli_nets:tiny", "--batch", "three.npy"), 2, "N a multiple of 2"),
        (("tiny.onnx", "cli_nets:tiny", "--batch", "objects.npy"), 2, "no array of numbers"),
        (("tiny.onnx", "cli_nets:tiny", "--batch", "none.npy"), 2, "there is no batch none.npy"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_verified_is_told(run, exported, arguments, code, words):
    result = run("verify", *arguments)
    assert words in told(result)
    assert result.exit_code == code


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
        (("cli_nets:tinny",), "it defines tiny, "),
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
    result = run("export", "qcdq", *defaults, *arguments, *FLAGS)
    assert words in told(result)
    assert result.exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "qonnx", "cli_nets:small", "--out", "x.onnx"),
        ("export", "qonnx", "cli_nets:small", "--input-shape", "1,x", "--out", "x.onnx"),
        ("export", "hls", *SMALL, "--out", "x"),
        ("export", "finn", *SMALL, "--out", "x", "--images", "int8"),
        ("export", "finn", *SMALL, "--out", "x", "--mean", "a"),
        ("verify", "x.onnx", "cli_nets:small", "--images", "0"),
        ("nothing",),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_an_error_is_json_too_where_json_was_asked_for(run):
    result = run("verify", "none.onnx", "cli_nets:small", "--json")
    found = json.loads(result.stdout)
    assert found == {
        "ok": False,
        "error": "none.onnx does not exist or is not a file",
        "exit_code": result.exit_code,
    }


def test_a_module_that_needs_a_missing_package_is_told_apart(run, folder):
    (folder / "needs_more.py").write_text("import no_such_package\n")
    result = run("export", "qonnx", "needs_more:build", "--input-shape", "1,4", "--out", "x.onnx")
    assert result.exit_code == 3
    assert "No module named 'no_such_package'" in told(result)


def test_a_missing_tool_is_told_with_its_install_line(run, monkeypatch):
    pytest.importorskip("hls4ml", reason="needs the extra 'hls4ml'")
    monkeypatch.setenv("PATH", "")
    result = run("export", "hls4ml", *SMALL, "--out", "project")
    assert result.exit_code == 3
    assert "apt-get install g++" in told(result)


@pytest.mark.parametrize("module", ["finn.xsi", "hls4ml"])
def test_a_missing_extra_is_told_with_its_install_line(run, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    extra = module.partition(".")[0]
    result = run("export", extra, *SMALL, "--out", "out")
    assert result.exit_code == 3
    assert f"pip install 'brevitas-ftprop[{extra}]'" in told(result)


def test_without_typer_the_command_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "typer", None)
    assert cli.main(["rules"]) == 3
    assert "pip install 'brevitas-ftprop[cli]'" in capsys.readouterr().err


def test_the_console_script_is_the_same_door():
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"brevitas-ftprop": f"{cli.__name__}:{cli.main.__name__}"}


def test_an_interrupted_export_ends_with_130_and_leaves_nothing(run, folder):
    before = sorted(folder.iterdir())
    arguments = ("cli_nets:interrupted", "--input-shape", "1,4", "--out", "half.onnx")
    result = run("export", "qonnx", *arguments, *FLAGS)
    assert result.exit_code == 130
    assert result.stdout == ""
    assert [p for p in sorted(folder.iterdir()) if p not in before if p.name != "__pycache__"] == []


def test_a_programming_error_shows_its_traceback(run, monkeypatch):
    def broken(*_):
        raise AssertionError("a mistake of ours")

    monkeypatch.setattr("brevitas_ftprop.cli.export.files.verify_export", broken)
    with pytest.raises(AssertionError, match="of ours"):
        run("export", "qonnx", *SMALL, "--out", "mistake.onnx", *FLAGS)


def test_a_file_is_written_without_verification_and_replaced_when_told(run, folder):
    for extra in ((), ("--overwrite",)):
        arguments = ("cli_nets:a_model", "--input-shape", "1,4", "--out", "plain.onnx", *extra)
        result = run("export", "qcdq", *arguments, "--no-dynamo", "--no-verify", "--json")
        assert result.exit_code == 0
        assert json.loads(result.stdout)["verification"] is None
    assert (folder / "plain.onnx").is_file()


def test_quantizers_are_swapped_before_the_checkpoint_is_loaded(run):
    from brevitas_ftprop.cli.loading import load_model

    model = load_model("cli_nets:small", rule="SSTE", checkpoint=Path("small.pt"))
    assert model[2].act_quant.rule == "saturated_ste"
    assert torch.equal(model[1].weight, torch.load("small.pt")["1.weight"])


def test_a_model_without_a_checkpoint_is_the_same_in_every_run(run):
    from brevitas_ftprop.cli.loading import load_model

    one, other = (load_model("cli_nets:small") for _ in range(2))
    assert torch.equal(one[1].weight, other[1].weight)


def test_the_table_of_rules_holds_each_with_its_formulas(run):
    table = run("rules").stdout
    described = json.loads(run("rules", "--json").stdout)["rules"]
    assert [rule["name"] for rule in described] == list(RULES)
    for rule in described:
        assert f" {rule['name']} " in table
        if RULES[rule["name"]].__module__.startswith("brevitas_ftprop."):
            assert rule["loss"]
            assert rule["slope"]
            assert set(rule["symbols"]) == set(rule["parameters"])


def test_a_rule_is_shown_with_the_parameters_that_it_is_given(run):
    (rule,) = json.loads(run("rules", "SSTEv2", "--json").stdout)["rules"]
    assert rule["name"] == "saturated_ste"
    assert rule["parameters"] == {"width": pytest.approx(3**0.5)}


@pytest.mark.parametrize(
    ("name", "start"), [("rules.png", b"\x89PNG"), ("rules.svg", b"<?xml"), ("rules.pdf", b"%PDF")]
)
def test_rules_are_drawn_to_each_format(run, folder, name, start):
    result = run("rules", "ramp", "hinge", "approx_sign", "--plot", name)
    assert result.exit_code == 0
    assert (folder / name).read_bytes().startswith(start)
    result = run("rules", "ramp", "--plot", name)
    assert result.exit_code == 2
    assert "pass --overwrite" in told(result)


def test_a_plot_of_another_format_is_refused(run):
    result = run("rules", "--plot", "rules.gif")
    assert result.exit_code == 2
    assert ".png, .svg, .pdf" in told(result)


def test_a_model_that_maps_has_no_findings_and_ends_with_0(run):
    result = run("check", "cli_nets:tiny", "good.pt", "--input-shape", "1,3,8,8", "--no-dynamo")
    assert result.exit_code == 0
    assert result.stdout == "finn: no findings\n"


@pytest.mark.parametrize("target", ["finn", "hls4ml"])
def test_findings_are_listed_with_reason_and_remedy_and_end_with_1(run, target):
    arguments = ("cli_nets:unquantized_input", "--input-shape", "1,4", "--target", target)
    result = run("check", *arguments, "--no-dynamo")
    assert result.exit_code == 1
    assert "why: " in result.stdout
    assert "fix: " in result.stdout
    result = run("check", *arguments, "--no-dynamo", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["ok"], found["target"]) == (False, target)
    errors = [finding for finding in found["findings"] if finding["severity"] == "error"]
    assert errors
    for finding in errors:
        assert all(finding[key] for key in ("layer", "rule", "message", "why", "fix"))


def test_a_model_is_checked_for_the_edges_asked_for(run):
    arguments = (*SMALL, "--no-dynamo", "--images", "uint8")
    assert "pixel-input" in run("check", *arguments).stdout


def test_what_cannot_be_checked_is_told(run):
    result = run("check", "cli_nets:small", "evil.pt", "--input-shape", "1,4")
    assert result.exit_code == 2
    assert "holds pickled Python objects" in told(result)


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
    assert found["edges"]["input"] == "uint8 pixels (1, 8, 8, 3)"
    assert found["edges"]["output"] == "class index"
    partition = ("simulate", "fpga/7_folded.onnx", "--node", "Thresholding_rtl_0", "--json")
    if shutil.which("verilator") and shutil.which("g++"):
        result = run(*partition)
        assert result.exit_code == 0
        (node,) = json.loads(result.stdout)["nodes"]
        assert node["mismatches"] == 0
        assert node["cycles"] == node["estimated_cycles"]
    monkeypatch.setenv("PATH", "")
    result = run(*partition[:-1])
    assert result.exit_code == 3
    assert "apt-get install verilator g++" in told(result)


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


def test_what_is_no_partition_is_not_simulated(run, exported):
    result = run("simulate", "tiny.onnx")
    assert result.exit_code == 1
    assert "holds no FINN hardware node" in told(result)
