"""README says what is so: its code runs, and its table of rules is that of the package."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from brevitas_ftprop.rules import RULES

REPO = Path(__file__).resolve().parent.parent
README = (REPO / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
# Names in a snippet, and the package that the snippet then needs.
NEEDS = {"export_finn": "finn", "export_hls4ml": "hls4ml"}
BUILT_IN = sorted(n for n, rule in RULES.items() if rule.__module__.startswith("brevitas_ftprop."))


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def test_every_python_snippet_runs_in_one_session(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("brevitas_ftprop.rules.registry.RULES", dict(RULES))
    session: dict = {}
    for snippet in SNIPPETS:
        missing = [extra for name, extra in NEEDS.items() if name in snippet and not _has(extra)]
        if not missing:
            exec(snippet, session)
    assert "quantizers changed" in capsys.readouterr().out
    assert (tmp_path / "cnv.qonnx.onnx").is_file()


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_rule_stands_in_the_table_with_its_reference_names(name):
    (row,) = re.findall(rf"^\| `{name}` \|.*$", README, re.MULTILINE)
    for alias in RULES[name].aliases:
        assert re.search(rf"\b{alias}\b", row)


def test_the_number_of_rules_is_the_one_that_readme_names():
    assert f"**{len(BUILT_IN)} rules**" in README
