"""A rule of the user's own trains, is recorded with its source, and is not mistaken for another."""

from __future__ import annotations

import hashlib
import sys

import pytest

pytest.importorskip("jsonargparse", reason="needs the extra 'examples'")

import train
from training import Result, differences

OPTIONS = ["--data.name", "random", "--data.image_size", "8", "--data.train_images", "64"]
QUIET = ["--accelerator", "cpu", "--progress", "false", "--log", "false", "--out", "out"]


@pytest.mark.parametrize(
    "own",
    [["--rule", "myrules:Laplace(width=2)"], ["--import", "myrules", "--rule", "laplace(width=2)"]],
)
def test_an_own_rule_trains_and_its_source_is_recorded(own_module, own, capsys):
    assert train.main([*OPTIONS, *QUIET, "--act", "sign", *own]) == 0
    result = Result.read(own_module.parent / "out" / "result.json")
    assert result.recipe["rule"] == "laplace(width=2.0)"
    source = hashlib.sha256(own_module.read_bytes()).hexdigest()
    assert result.recipe["imports"] == {"myrules": source[:16]}
    assert result.converted == 3

    resume = ["--config", "out/recipe.yaml", *QUIET, "--resume"]
    assert train.main(resume) == 0
    own_module.write_text(own_module.read_text() + "\n")
    assert train.main(resume) == 2
    assert "myrules has changed since this recipe was written" in capsys.readouterr().err
    own_module.unlink()
    del sys.modules["myrules"]
    assert train.main(resume) == 2
    assert "there is no module 'myrules', neither in" in capsys.readouterr().err


def test_an_own_setter_is_named_in_the_same_way(own_module):
    recipe, _, _ = train.read_arguments(["--targets", "myrules:Follow"])
    assert recipe.targets == "follow"
    plain, _, _ = train.read_arguments(["--import", "myrules", "--import", "json"])
    assert list(plain.imports) == ["myrules", "json"]
    assert differences(recipe.to_dict(), plain.to_dict()) == ["targets"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("myrules:Forgotten", "no registered rule or target setter: decorate its class"),
        ("myrules:Laplas", "did you mean myrules:Laplace?"),
        ("laplace", "unknown rule 'laplace'"),
    ],
)
def test_what_is_no_rule_is_told(own_module, capsys, rule, message):
    assert train.main([*OPTIONS, *QUIET, "--rule", rule]) == 2
    assert message in capsys.readouterr().err
