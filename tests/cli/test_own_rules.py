"""Rules of the user's own on the command line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from brevitas_ftprop.rules import RULES
from tests.cli.commands import REPO, SMALL

pytestmark = pytest.mark.heavy

RULE = """
print("the user's own words")
import torch
from brevitas_ftprop.rules import Rule, register


@register
class Laplace(Rule):
    name = "laplace"

    def slope(self, m):
        return torch.exp(-m.abs())
"""


def test_an_own_rule_is_one_like_any_other(folder):
    (folder / "own_rules.py").write_text(RULE)
    check = ["check", *SMALL, "--target", "qcdq", "--rule", "own_rules:Laplace", "--json"]
    # The dynamo exporter needs a newer torch than the lowest.
    check.append("--no-dynamo")
    finished = subprocess.run(
        [sys.executable, "-m", "brevitas_ftprop", "--import", "own_rules", *check],
        cwd=folder,
        env={"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["ok"]
    assert "the user's own words" in finished.stderr
    assert "quantizers changed" in finished.stderr


def test_own_rules_are_listed(folder, run):
    (folder / "own_rules.py").write_text(RULE)
    try:
        for arguments in (["--import", "own_rules", "rules"], ["rules", "own_rules:Laplace"]):
            listed = json.loads(run(*arguments, "--json").stdout)["rules"]
            assert "laplace" in [rule["name"] for rule in listed]
    finally:
        sys.modules.pop("own_rules", None)
        RULES.pop("laplace", None)


def test_a_module_that_is_not_there_is_wrong_input(run):
    result = run("--import", "no_such_rules", "rules")
    assert result.exit_code == 2
    assert "there is no module 'no_such_rules'" in result.stderr
