"""What scripts rely on: exit codes, and a sentence for wrong usage and for what is missing."""

from __future__ import annotations

import json
import sys
import tomllib

import pytest

from brevitas_ftprop import cli
from tests.cli.commands import FLAGS, REPO, SMALL, told

pytest.importorskip("typer.testing", reason="needs the extra 'cli'")


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "qonnx", "cli_nets:small", "--out", "x.onnx"),
        ("export", "qonnx", "cli_nets:small", "--input-shape", "1,x", "--out", "x.onnx"),
        ("export", "hls", *SMALL, "--out", "x"),
        ("export", "finn", *SMALL, "--out", "x", "--images", "int9"),
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
    arguments = ("needs_more:build", "--input-shape", "1,4", "--untrained", "--out", "x.onnx")
    result = run("export", "qonnx", *arguments)
    assert result.exit_code == 3
    assert "No module named 'no_such_package'" in told(result)


def test_a_mistake_that_torch_finds_is_placed_where_the_user_made_it(run, folder):
    result = run("check", "cli_nets:failing_in_torch", "--input-shape", "1,4", "--arg", "classes=x")
    assert result.exit_code == 2
    lines = (folder / "cli_nets.py").read_text().splitlines()
    line = lines.index("    return torch.nn.Linear(4, classes)") + 1
    sentence = told(result)
    assert "cli_nets:failing_in_torch failed: TypeError: " in sentence
    assert sentence.endswith(f" ({folder / 'cli_nets.py'}, line {line})")
    assert "expected one of" not in sentence
    assert result.stderr.strip() == sentence


def test_a_missing_tool_is_told_with_its_install_line(run, monkeypatch):
    pytest.importorskip("hls4ml", reason="needs the extra 'hls4ml'")
    monkeypatch.setenv("PATH", "")
    result = run("export", "hls4ml", *SMALL, "--untrained", "--out", "project")
    assert result.exit_code == 3
    assert "apt-get install g++" in told(result)


@pytest.mark.parametrize("module", ["finn.xsi", "hls4ml"])
def test_a_missing_extra_is_told_with_its_install_line(run, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    extra = module.partition(".")[0]
    result = run("export", extra, *SMALL, "--untrained", "--out", "out")
    assert result.exit_code == 3
    assert f"pip install 'brevitas-ftprop[{extra}]'" in told(result)


def test_without_typer_the_command_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "typer", None)
    assert cli.main(["rules"]) == 3
    assert "pip install 'brevitas-ftprop[cli]'" in capsys.readouterr().err


def test_the_console_script_is_the_same_door():
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"brevitas-ftprop": f"{cli.__name__}:{cli.main.__name__}"}


def test_a_programming_error_shows_its_traceback(run, monkeypatch):
    def broken(*_):
        raise AssertionError("a mistake of ours")

    monkeypatch.setattr("brevitas_ftprop.export.verify.verify_export", broken)
    with pytest.raises(AssertionError, match="of ours"):
        run("export", "qonnx", *SMALL, "--untrained", "--out", "mistake.onnx", *FLAGS)
