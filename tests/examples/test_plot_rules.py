"""The gallery of rules that README shows."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from brevitas_ftprop import RULES, get_rule

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
spec = importlib.util.spec_from_file_location("plot_rules", EXAMPLES / "plot_rules.py")
plot_rules = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plot_rules)


def test_the_gallery_holds_every_rule_and_the_stages_of_those_with_a_schedule():
    shown = plot_rules.gallery()
    assert {rule.name for rule in shown} == set(RULES)
    assert len(set(shown)) == len(shown)
    for name in ("ede", "reste"):
        stages = [rule for rule in shown if rule.name == name]
        assert stages == [get_rule(name).at(progress) for progress in (0, 0.5, 1)]
    assert sum(rule.name == "soft_hinge" for rule in shown) == 1


def test_a_gallery_of_three_rules_is_drawn(tmp_path, monkeypatch):
    few = {name: RULES[name] for name in ("ste", "perceptron", "swish_sign")}
    monkeypatch.setattr(plot_rules, "RULES", few)
    plot_rules.main([str(tmp_path / "rules.svg")])
    drawing = (tmp_path / "rules.svg").read_text()
    assert all(f"<!-- {name} -->" in drawing for name in few)
    assert drawing.count("<!-- sign(z) -->") == 3


def test_the_picture_that_readme_shows_is_there_and_small():
    assert "examples/rules.png" in (EXAMPLES.parent / "README.md").read_text()
    assert 100_000 < (EXAMPLES / "rules.png").stat().st_size < 400_000
