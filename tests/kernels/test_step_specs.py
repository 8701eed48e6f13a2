"""A step crosses operators as its spec, and comes out as the step that it was."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import product

import pytest

from brevitas_ftprop.kernels import STEPS, Integers, Step, parse_step
from brevitas_ftprop.kernels.step_specs import register_step

SAMPLES = {
    "str": ("word",),
    "bool": (True, False),
    "int": (2, 3, 255),
    "float": (0.5, 1.0, 0.1, 1e-30, 3e38, 2),
}


def steps_of(kind: type[Step]) -> list[Step]:
    """Steps of a kind with all choices, and samples of all else, in its fields."""
    values = [
        kind.choices.get(field.name) or SAMPLES[field.type.__name__] for field in fields(kind)
    ]
    return [kind(*each) for each in product(*values)]


@pytest.mark.parametrize("kind", STEPS.values(), ids=STEPS.keys())
def test_every_registered_step_comes_out_of_its_spec(kind):
    assert STEPS[kind.name] is kind
    for step in steps_of(kind):
        parsed = parse_step(step.spec)
        assert parsed == step
        assert type(parsed) is kind
        assert [type(getattr(parsed, field.name)) for field in fields(kind)] == [
            field.type for field in fields(kind)
        ]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nonsense:3:1.0:sum", "'nonsense:3:1.0:sum' is no step: .* sign, ternary, integers"),
        ("", "'' is no step"),
        ("staircase", "'staircase:steps:max_val:form', not 'staircase'"),
        ("staircase:3:1.0:sum:", "'staircase:steps:max_val:form', not 'staircase:3:1.0:sum:'"),
        ("sign:1", "a step sign is written 'sign', not 'sign:1'"),
        ("staircase:3.5:1.0:sum", r"steps of a step staircase is an integer, not '3\.5'"),
        ("ternary:half:sum", "threshold of a step ternary is a number, not 'half'"),
        ("ternary:0.5:twice", "form of a step ternary is one of single, sum, not 'twice'"),
        (
            "integers:up:sum:True",
            "rounding of .* is one of round, ceil, floor, trunc, own, not 'up'",
        ),
        ("integers:ceil:sum:yes", "relu of a step integers is one of True, False, not 'yes'"),
    ],
)
def test_a_spec_that_cannot_be_read_is_refused_and_what_would_be_right_is_named(spec, message):
    with pytest.raises(ValueError, match=message):
        parse_step(spec)


def test_a_name_that_is_taken_and_a_field_that_no_spec_holds_are_refused():
    @dataclass(frozen=True)
    class Other(Step):
        name = "integers"

    with pytest.raises(ValueError, match="'integers' is registered already"):
        register_step(Other)
    assert STEPS["integers"] is Integers

    @dataclass(frozen=True)
    class Unwritable(Step):
        levels: list
        name = "unwritable"

    with pytest.raises(ValueError, match=r"unwritable\.levels has to be one of str, bool"):
        register_step(Unwritable)
    assert "unwritable" not in STEPS
