"""READMEs say what is so: their code runs, their commands parse, and their links lead somewhere."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from brevitas_ftprop.rules import RULES
from brevitas_ftprop.targets import SETTERS

REPO = Path(__file__).resolve().parent.parent
README = REPO / "README.md"
OF_RULES, OF_TARGETS = (
    REPO / "brevitas_ftprop" / each / "README.md" for each in ("rules", "targets")
)
FOLDERS = ("brevitas_ftprop", "examples", "tests")
READMES = [README, *(path for name in FOLDERS for path in sorted((REPO / name).rglob("README.md")))]
# Names in a snippet, and the package that the snippet then needs.
NEEDS = {"export_finn": "finn", "export_hls4ml": "hls4ml"}
BUILT_IN = sorted(n for n, rule in RULES.items() if rule.__module__.startswith("brevitas_ftprop."))
CODE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def _blocks(readme: Path, language: str) -> list[str]:
    return [code for tag, code in CODE.findall(readme.read_text()) if tag == language]


def _prose(readme: Path) -> str:
    return CODE.sub("", readme.read_text())


def _commands(readme: Path) -> Iterator[str]:
    """Every line of its shell blocks, and every command within its sentences."""
    for block in _blocks(readme, "bash"):
        yield from block.replace("\\\n", " ").splitlines()
    for code in re.findall(r"`([^`]+)`", _prose(readme)):
        if re.match(r"(python|pytest|brevitas-ftprop)\s", code):
            yield " ".join(code.split())


def _name(readme: Path) -> str:
    return readme.relative_to(REPO).as_posix()


every_readme = pytest.mark.parametrize("readme", READMES, ids=_name)
COMMANDS = [(readme, command) for readme in READMES for command in _commands(readme)]


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def test_a_user_with_five_minutes_can_read_it():
    assert len(README.read_bytes()) <= 9000


@pytest.mark.heavy
@pytest.mark.parametrize("readme", [r for r in READMES if _blocks(r, "python")], ids=_name)
def test_every_python_snippet_runs_in_one_session(readme, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("brevitas_ftprop.rules.registry.RULES", dict(RULES))
    monkeypatch.setattr("brevitas_ftprop.targets.setters.SETTERS", dict(SETTERS))
    session: dict = {}
    for snippet in _blocks(readme, "python"):
        missing = [extra for name, extra in NEEDS.items() if name in snippet and not _has(extra)]
        if not missing:
            exec(snippet, session)
    if readme == README:
        assert "quantizers changed" in capsys.readouterr().out
        assert (tmp_path / "cnv.qonnx.onnx").is_file()


@every_readme
def test_every_relative_link_leads_to_a_file_and_to_a_heading_in_it(readme):
    for link in re.findall(r"\]\(([^)\s]+)\)", _prose(readme)):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (readme.parent / path).resolve() if path else readme
        assert target.exists(), link
        assert target.is_relative_to(REPO), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", _prose(target), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder in which the commands of READMEs find the files that they name."""
    (tmp_path / "examples").symlink_to(REPO / "examples")
    (tmp_path / "run").mkdir()
    recipe = REPO / "examples" / "recipes" / "resnet18_sign_ftp_sh.yaml"
    shutil.copy(recipe, tmp_path / "run" / "recipe.yaml")
    monkeypatch.chdir(tmp_path)
    for folder in ("examples", "examples/benchmarks"):
        monkeypatch.syspath_prepend(str(REPO / folder))


# An outcome, not an error, which N818 would have it called.
class Parsed(Exception):  # noqa: N818
    """The arguments of a script are those that it takes."""


def _check_script(path: str, arguments: list[str], monkeypatch) -> None:
    """Run a script's main up to where it has read its arguments."""
    jsonargparse = pytest.importorskip("jsonargparse", reason="needs the extra 'examples'")
    pytest.importorskip("lightning", reason="needs the extra 'examples'")
    for parser in (argparse.ArgumentParser, jsonargparse.ArgumentParser):
        parse = parser.parse_args

        def parse_only(self, argv=None, *rest, parse=parse, **options):
            parse(self, argv, *rest, **options)
            raise Parsed

        monkeypatch.setattr(parser, "parse_args", parse_only)
    spec = importlib.util.spec_from_file_location(Path(path).stem, REPO / path)
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, script)
    spec.loader.exec_module(script)
    with pytest.raises(Parsed):
        script.main(arguments)


def _check_command_line(arguments: list[str]) -> None:
    typer = pytest.importorskip("typer", reason="needs the extra 'cli'")
    from brevitas_ftprop.cli.app import app

    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    command.make_context(command.name, arguments)


@pytest.mark.parametrize(
    ("readme", "command"), COMMANDS, ids=[f"{_name(readme)}: {c}" for readme, c in COMMANDS]
)
def test_every_command_names_scripts_files_extras_and_options_that_are_there(
    readme, command, workplace, monkeypatch
):
    for part in command.split("&&"):
        program, *arguments = shlex.split(part)
        program = Path(program).name
        if program == "brevitas-ftprop":
            _check_command_line(arguments)
        elif program == "python":
            _check_script(arguments[0], arguments[1:], monkeypatch)
        elif program == "torchrun":
            script = next(at for at, word in enumerate(arguments) if word.endswith(".py"))
            _check_script(arguments[script], arguments[script + 1 :], monkeypatch)
        elif program == "pytest":
            for path in (word for word in arguments if word.startswith("tests")):
                assert (REPO / path).exists()
        elif program == "pip":
            (extras,) = re.findall(r"\[([\w,]+)\]", arguments[-1])
            project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
            assert set(extras.split(",")) <= set(project["optional-dependencies"])
        elif part.strip() != ". .venv/bin/activate":
            assert part.startswith("python3 -m venv .venv")


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_rule_stands_in_the_table_with_its_reference_names(name):
    (row,) = re.findall(rf"^\| `{name}` \|.*$", OF_RULES.read_text(), re.MULTILINE)
    for alias in RULES[name].aliases:
        assert re.search(rf"\b{alias}\b", row)


def test_the_table_of_setters_holds_each_with_its_parameters_and_no_other():
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)$", OF_TARGETS.read_text(), re.MULTILINE))
    built_in = {n: s for n, s in SETTERS.items() if s.__module__.startswith("brevitas_ftprop.")}
    assert sorted(rows) == sorted(built_in)
    for name, setter in built_in.items():
        for parameter in fields(setter):
            assert f"`{parameter.name}` {parameter.default}" in rows[name]


def test_the_number_of_rules_is_the_one_that_readme_names():
    assert f"**{len(BUILT_IN)} rules**" in README.read_text()


def test_the_picture_of_all_rules_is_there_and_small():
    assert "](rules.png)" in OF_RULES.read_text()
    assert 100_000 < OF_RULES.with_name("rules.png").stat().st_size < 400_000
