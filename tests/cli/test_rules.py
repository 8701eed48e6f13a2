"""Rules are listed, shown with their parameters, and drawn."""

from __future__ import annotations

import json

import pytest

from brevitas_ftprop.rules import RULES, get_rule
from tests.cli.commands import told

pytest.importorskip("typer.testing", reason="needs the extra 'cli'")


def test_the_table_of_rules_holds_each_with_its_formulas(run):
    table = run("rules").stdout
    described = json.loads(run("rules", "--json").stdout)["rules"]
    assert [rule["name"] for rule in described] == list(RULES)
    assert "stock keeps the gradients of Brevitas' own quantizers" in " ".join(table.split())
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


def test_the_gallery_holds_every_rule_and_the_stages_of_those_with_a_schedule():
    from brevitas_ftprop.cli.rules import gallery

    shown = gallery()
    assert {rule.name for rule in shown} == set(RULES)
    assert len(set(shown)) == len(shown)
    for name in ("ede", "reste"):
        stages = [rule for rule in shown if rule.name == name]
        assert stages == [get_rule(name).at(progress) for progress in (0, 0.5, 1)]
    assert sum(rule.name == "soft_hinge" for rule in shown) == 1


def test_a_gallery_of_three_rules_is_drawn_where_none_is_named(run, folder, monkeypatch):
    few = {name: RULES[name] for name in ("ste", "perceptron", "swish_sign")}
    monkeypatch.setattr("brevitas_ftprop.rules.RULES", few)
    assert run("rules", "--plot", "gallery.svg").exit_code == 0
    drawing = (folder / "gallery.svg").read_text()
    assert all(f"<!-- {name} -->" in drawing for name in few)
    assert drawing.count("<!-- sign(z) -->") == 3
    for label in ("margin m", "pre-activation z", "x", "loss, slope"):
        assert drawing.count(f"<!-- {label} -->") == 3
    for label in ("loss", "slope", "output", "sign, g = +1", "sign, g = -1"):
        assert drawing.count(f"<!-- {label} -->") == 1


def test_a_plot_of_another_format_is_refused(run):
    result = run("rules", "--plot", "rules.gif")
    assert result.exit_code == 2
    assert ".png, .svg, .pdf" in told(result)
