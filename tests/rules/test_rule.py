import ast
import dataclasses
import math
import sys
from pathlib import Path

import pytest

from brevitas_ftprop import rules
from brevitas_ftprop.rules import RULES, SaturatedSte, Sigmoid, get_rule

WITH_PARAMETERS = [
    (rule, parameter.name)
    for rule in RULES.values()
    for parameter in dataclasses.fields(rule())
    if "range" in parameter.metadata
]


@pytest.mark.parametrize(("rule", "parameter"), WITH_PARAMETERS)
def test_a_parameter_out_of_range_raises_and_is_named(rule, parameter):
    low, high = next(p for p in dataclasses.fields(rule()) if p.name == parameter).metadata["range"]
    for value in (low - 1e-3, -1.0, high + 0.1, math.inf, -math.inf, math.nan):
        with pytest.raises(ValueError, match=f"{rule.name}: {parameter} must"):
            rule(**{parameter: value})


@pytest.mark.parametrize(("rule", "parameter"), WITH_PARAMETERS)
def test_a_parameter_that_is_not_a_number_raises_and_is_named(rule, parameter):
    for value in ("1", None, True, 1j, [1.0]):
        with pytest.raises(TypeError, match=f"{rule.name}: {parameter} must be a number"):
            rule(**{parameter: value})


def test_parameters_are_keyword_only_and_become_floats():
    with pytest.raises(TypeError):
        SaturatedSte(2.0)
    assert type(SaturatedSte(width=2).width) is float
    assert SaturatedSte(width=2) == SaturatedSte(width=2.0)


def test_a_rule_cannot_be_changed():
    rule = SaturatedSte()
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.width = 2.0
    assert rule == SaturatedSte()


def test_a_spec_names_only_the_parameters_that_differ_from_their_default():
    assert Sigmoid().spec == "sigmoid"
    assert Sigmoid(x_scale=2, y_scale=1).spec == "sigmoid"
    assert Sigmoid(y_scale=0.1).spec == "sigmoid(y_scale=0.1)"
    assert SaturatedSte(width=1.5).spec == "saturated_ste(width=1.5)"
    assert repr(SaturatedSte(width=1.5)) == "get_rule('saturated_ste(width=1.5)')"


def test_a_rule_is_no_other_thing():
    assert get_rule("hinge") != "hinge"
    assert {get_rule("hinge"), get_rule("WtHinge"), get_rule("ste")} == {
        get_rule("ste"),
        get_rule("hinge"),
    }


def test_the_rules_import_nothing_but_torch_and_the_grammar_of_specs():
    for file in Path(rules.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                outside = node.level > 1 and node.module != "specs"
                assert not outside, f"{file.name} reaches outside its package"
                imported = [] if node.level else [node.module]
            else:
                continue
            packages = {name.partition(".")[0] for name in imported}
            assert packages <= {"torch", *sys.stdlib_module_names}
