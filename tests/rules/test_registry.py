import math
import re

import pytest
import torch

from brevitas_ftprop.rules import RULES, Rule, get_rule, positive, register


@pytest.fixture(autouse=True)
def registry_as_before():
    before = dict(RULES)
    yield
    RULES.clear()
    RULES.update(before)


def test_a_rule_is_defined_in_five_lines():
    @register
    class MyRule(Rule):
        name = "my_rule"

        def slope(self, m):
            return 1 / (1 + m * m)

    rule = get_rule("my_rule")
    assert rule == MyRule()
    assert (rule.spec, rule.even, rule.kinks, rule.has_loss) == ("my_rule", False, (), False)
    assert rule.slope(torch.tensor(1.0)) == 0.5
    with pytest.raises(NotImplementedError, match="my_rule is defined by its slope alone"):
        rule.loss(torch.tensor(1.0))


def test_a_rule_of_the_user_may_have_parameters_and_aliases():
    @register
    class Leaky(Rule):
        name = "leaky"
        aliases = {"Leaky": {}, "VeryLeaky": {"leak": 0.5}}  # noqa: RUF012
        leak: float = 0.1
        width: float = positive(default=1.0)

        def slope(self, m):
            return (m.abs() <= self.width).to(m.dtype) * (1 - self.leak) + self.leak

    assert get_rule("VeryLeaky").leak == 0.5
    assert get_rule("leaky(leak=-0.25, width=2)") == Leaky(leak=-0.25, width=2)
    assert Leaky(leak=0.5).spec == "leaky(leak=0.5)"
    assert Leaky(leak=0.5) == get_rule("VeryLeaky")
    assert Leaky(leak=0.5) != Leaky()


def test_a_subclass_of_a_rule_is_a_rule_of_its_own():
    @register
    class Half(RULES["saturated_ste"]):
        name = "half_saturated_ste"

        def loss(self, m):
            return super().loss(m) / 2

        def slope(self, m):
            return super().slope(m) / 2

    assert get_rule("half_saturated_ste(width=2)").slope(torch.tensor(1.5)) == 0.5
    assert get_rule("SSTE").name == "saturated_ste"
    assert get_rule("half_saturated_ste") != get_rule("saturated_ste")


def test_a_rule_that_is_wrongly_declared_even_is_refused():
    class OneSided(Rule):
        name = "one_sided"
        even = True

        def slope(self, m):
            return (m <= 1).to(m.dtype)

    with pytest.raises(ValueError, match="one_sided is declared even"):
        register(OneSided)
    assert "one_sided" not in RULES


def test_a_slope_that_is_not_minus_the_derivative_of_the_loss_is_refused():
    class Wrong(Rule):
        name = "wrong"

        def loss(self, m):
            return (1 - m) ** 2

        def slope(self, m):
            return 1 - m

    with pytest.raises(ValueError, match="slope of wrong is not minus the derivative"):
        register(Wrong)
    assert "wrong" not in RULES


@pytest.mark.parametrize("name", ["hinge", "SoftHinge"])
def test_registering_a_taken_name_raises_and_changes_nothing(name):
    before = dict(RULES)

    class Again(Rule):
        def slope(self, m):
            return m

    Again.name = name
    with pytest.raises(ValueError, match=f"the name '{name}' is taken by the rule '"):
        register(Again)
    assert before == RULES


def test_a_notebook_cell_that_defines_a_rule_can_be_run_again():
    def cell(factor):
        body = {"name": "of_a_cell", "slope": lambda self, m: torch.ones_like(m) * factor}
        return register(type("OfACell", (Rule,), body | {"__module__": "__main__"}))

    cell(1.0)
    again = cell(2.0)
    assert RULES["of_a_cell"] is again
    assert get_rule("of_a_cell").slope(torch.zeros(1)).item() == 2


def test_registering_a_taken_alias_raises():
    class Other(Rule):
        name = "other"
        aliases = {"ste": {}}  # noqa: RUF012

        def slope(self, m):
            return m

    with pytest.raises(ValueError, match="the name 'ste' is taken by the rule 'ste'"):
        register(Other)
    assert "other" not in RULES


@pytest.mark.parametrize("name", ["two words", "1st", "", "lambda", 3])
def test_a_name_that_is_no_identifier_is_refused(name):
    class Odd(Rule):
        def slope(self, m):
            return m

    Odd.name = name
    with pytest.raises(ValueError, match="must be a Python identifier"):
        register(Odd)


def test_a_rule_without_a_name_is_refused():
    class Nameless(Rule):
        def slope(self, m):
            return m

    with pytest.raises(ValueError, match="Nameless needs a name"):
        register(Nameless)


def test_only_rules_can_be_registered():
    for other in (Rule, torch.tanh, dict, RULES["hinge"]()):
        with pytest.raises(TypeError, match="needs a subclass of Rule"):
            register(other)


def in_place(self, m):
    return m.clamp_(0, 1)


@pytest.mark.parametrize(
    ("slope", "message"),
    [
        (lambda self, m: m.sum(), "must keep shape and dtype"),
        (lambda self, m: m.float(), "must keep shape and dtype"),
        (lambda self, m: m > 0, "must keep shape and dtype"),
        (lambda self, m: 1.0, "must return a tensor, not 1.0"),
        (lambda self, m: 1 / m, "must be finite"),
        (lambda self, m: m.no_such_method(), "fails on a torch.float64 tensor"),
        (in_place, "must not change its argument in place"),
    ],
    ids=["shape", "dtype", "bool", "number", "infinite", "exception", "in_place"],
)
@pytest.mark.parametrize("member", ["slope", "loss"])
def test_a_slope_or_loss_that_does_not_work_is_refused_at_registration(member, slope, message):
    members = {"slope": lambda self, m: m, member: slope}
    rule = type("Broken", (Rule,), {"name": "broken", **members})
    with pytest.raises(ValueError, match=message):
        register(rule)
    assert "broken" not in RULES


def test_a_rule_without_a_slope_is_refused():
    class Unfinished(Rule):
        name = "unfinished"

    with pytest.raises(ValueError, match=r"Unfinished must define slope\(m\)"):
        register(Unfinished)


@pytest.mark.parametrize("wrong", [(1.0, -1.0), (1.0, 1.0), (math.nan,), (math.inf,)])
def test_kinks_that_are_not_ascending_finite_numbers_are_refused(wrong):
    class Kinky(Rule):
        name = "kinky"
        kinks = wrong

        def slope(self, m):
            return m

    with pytest.raises(ValueError, match="must be finite and ascending"):
        register(Kinky)


def test_a_parameter_without_a_default_and_an_annotated_name_are_refused():
    class Needy(Rule):
        name = "needy"
        width: float

        def slope(self, m):
            return m

    class Annotated(Rule):
        name: str = "annotated"

        def slope(self, m):
            return m

    with pytest.raises(ValueError, match="unlike needy's width"):
        register(Needy)
    with pytest.raises(ValueError, match="unlike annotated's name"):
        register(Annotated)


@pytest.mark.parametrize("name", ["no_such_rule", "softhinge", "soft_hing(x_scale=2)"])
def test_an_unknown_name_lists_the_valid_ones(name):
    with pytest.raises(ValueError, match="unknown rule") as caught:
        get_rule(name)
    listed = set(re.findall(r"\w+", str(caught.value)))
    assert set(RULES) <= listed
    assert {alias for rule in RULES.values() for alias in rule.aliases} <= listed


def test_parameters_can_be_written_or_given():
    for rule in (
        get_rule("sigmoid(x_scale=3.0, y_scale=2)"),
        get_rule(" sigmoid ( x_scale = 3e0,y_scale=2 ) "),
        get_rule("sigmoid(x_scale=3)", y_scale=2),
        get_rule("Sigmoid2_2", x_scale=3),
        get_rule("Sigmoid2_2(x_scale=3)"),
        get_rule(get_rule("sigmoid(y_scale=2)"), x_scale=3),
    ):
        assert rule == get_rule("Sigmoid3_2")
        assert rule.spec == "sigmoid(x_scale=3.0, y_scale=2.0)"
    assert get_rule("hinge()") == get_rule("hinge")


@pytest.mark.parametrize(
    "spec",
    ["", "hinge(", "hinge)", "a b", "hinge()()", "sigmoid(2)", "sigmoid(x_scale=)",
     "sigmoid(x_scale=two)", "sigmoid(x_scale=2,)", "sigmoid(x_scale=1, x_scale=2)"],
)  # fmt: skip
def test_an_unreadable_spec_raises(spec):
    with pytest.raises(ValueError, match=r"cannot read|twice"):
        get_rule(spec)


def test_a_parameter_given_twice_raises():
    with pytest.raises(ValueError, match="sets x_scale already"):
        get_rule("sigmoid(x_scale=2)", x_scale=3)


def test_an_unknown_parameter_names_the_known_ones():
    with pytest.raises(ValueError, match="sigmoid has no parameter 'width'; it takes x_scale, y_"):
        get_rule("sigmoid", width=1)
    with pytest.raises(ValueError, match="hinge has no parameter 'width'; it takes none"):
        get_rule("hinge(width=1)")


@pytest.mark.parametrize("other", [None, 3, RULES["hinge"], torch.tanh])
def test_what_is_neither_a_string_nor_a_rule_raises(other):
    with pytest.raises(TypeError, match="a rule is a name such as 'hinge' or a Rule instance"):
        get_rule(other)


def test_an_unregistered_rule_raises():
    class Loose(Rule):
        name = "loose"

        def slope(self, m):
            return m

    with pytest.raises(ValueError, match="loose is not registered"):
        get_rule(Loose())
