"""Target setters are listed and shown with their parameters."""

from __future__ import annotations

import json

import pytest

from brevitas_ftprop.targets import SETTERS, TargetSetter, register_setter
from tests.cli.commands import told

pytest.importorskip("typer.testing", reason="needs the extra 'cli'")


def test_the_table_holds_each_setter_with_what_it_chooses(run):
    table = run("targets").stdout
    described = json.loads(run("targets", "--json").stdout)["setters"]
    assert [setter["name"] for setter in described] == list(SETTERS)
    for setter in described:
        assert f" {setter['name']} " in table
        assert setter["summary"]
        for name, value in setter["parameters"].items():
            assert f"{name} = {value}" in table


def test_a_setter_is_shown_with_the_parameters_that_it_is_given(run):
    (setter,) = json.loads(run("targets", "local_search(candidates=8)", "--json").stdout)["setters"]
    assert setter["spec"] == "local_search(candidates=8)"
    assert setter["parameters"] == {"candidates": 8, "iterations": 1}


def test_a_setter_of_ones_own_is_listed_once_it_is_registered(run, monkeypatch):
    known = dict(SETTERS)
    for module in ("targets.setters", "targets"):
        monkeypatch.setattr(f"brevitas_ftprop.{module}.SETTERS", known)

    @register_setter
    class Follow(TargetSetter):
        name = "follow"

    assert " follow " in run("targets").stdout


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no_such", "unknown target setter 'no_such'; valid are"),
        ("local_search(tries=3)", "no parameter 'tries'; it takes candidates, iterations"),
        ("uniform(", "cannot read the target setter 'uniform('"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(run, spec, message):
    result = run("targets", spec)
    assert result.exit_code == 2
    assert message in told(result)
