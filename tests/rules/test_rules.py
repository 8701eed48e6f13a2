"""What every registered rule must do; a new rule is tested by being registered."""

import copy
import dataclasses
import itertools
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from brevitas_ftprop.rules import RULES, get_rule

# tolerances of comparisons in the dtype's own arithmetic
RTOL = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 4e-2, torch.float16: 5e-3}
ATOL = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}
DTYPES = tuple(RTOL)


def named_settings():
    """Every rule with its defaults and as each alias says."""
    rules = [rule() for rule in RULES.values()]
    rules += [get_rule(alias) for rule in RULES.values() for alias in rule.aliases]
    return list(dict.fromkeys(rules))


def extreme_settings():
    """Every rule with parameters in a range, at all the corners of the ranges."""
    for rule in RULES.values():
        ranges = {
            p.name: p.metadata["range"] for p in dataclasses.fields(rule()) if "range" in p.metadata
        }
        for values in itertools.product(*ranges.values()):
            if ranges:
                yield rule(**dict(zip(ranges, values, strict=True)))


PLAIN = named_settings()
SETTINGS = PLAIN + list(extreme_settings())
EVEN = [rule for rule in SETTINGS if rule.even]

# What passes exactly at each kink: the slope there, worked out by hand from the formulas.
AT_KINKS = {
    "saturated_ste": {-1.0: 1.0, 1.0: 1.0},
    "saturated_ste(width=1.7320508075688772)": {-math.sqrt(3): 1.0, math.sqrt(3): 1.0},
    "hinge": {1.0: 1.0},
    "truncated_hinge": {-1.0: 1.0, 1.0: 1.0},
    "truncated_hinge(scale=2.0)": {0.0: 2.0, 1.0: 2.0},
    "perceptron": {0.0: 1.0},
    "truncated_perceptron": {-1.0: 1.0, 0.0: 1.0},
    "log_hinge": {-1.0: 1 / 3, 1.0: 1.0},
    "truncated_log_hinge": {2 - math.e: 2 / math.e, 1.0: 2.0},
    "truncated_squared_hinge": {-1.0: 2.0},
    "truncated_square": {-1.0: 4.0},
    # its start, o = 1
    "reste": {-1.5: 1.0, 1.5: 1.0},
    # at -log(e^2 - 1): 1/(1 + exp(m)) = 1/(1 + 1/(e^2 - 1)) = 1 - e^-2
    "truncated_logistic": {-math.log(math.e**2 - 1): 1 - math.exp(-2)},
}


def id_of(rule):
    return rule.spec


def tensor(values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)


def derivative_of_loss(rule, m):
    m = m.clone().requires_grad_()
    (derivative,) = torch.autograd.grad(rule.loss(m).sum(), m)
    return derivative


def dense_grid(rule, reach=4.0):
    """Margins 1/512 apart, those at a kink left out."""
    m = torch.arange(-reach, reach, 1 / 512, dtype=torch.float64)
    for kink in rule.kinks:
        m = m[(m - kink).abs() > 1e-9]
    return m


@pytest.mark.parametrize("rule", [r for r in SETTINGS if r.has_loss], ids=id_of)
def test_slope_is_minus_the_derivative_of_the_loss(rule):
    m = torch.cat([dense_grid(rule), dense_grid(rule, reach=300.0)])
    torch.testing.assert_close(rule.slope(m), -derivative_of_loss(rule, m), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rule", [r for r in SETTINGS if r.has_loss], ids=id_of)
def test_curvature_is_minus_the_change_of_the_slope(rule):
    m, step = dense_grid(rule), 1e-6
    slope = rule.slope(m)
    left, right = slope - rule.slope(m - step), rule.slope(m + step) - slope
    # At its kinks the slope jumps, at its corners the curvature does.
    smooth = (left - right).abs() < 1e-4 * step * slope.abs().max().clamp(min=1)
    assert smooth.double().mean() > 0.98
    change = (left + right)[smooth] / (2 * step)
    torch.testing.assert_close(rule.curvature(m)[smooth], -change, rtol=1e-5, atol=1e-5)


def test_every_built_in_rule_has_a_loss():
    assert all(rule.has_loss for rule in PLAIN)


@pytest.mark.parametrize("rule", PLAIN, ids=id_of)
def test_slope_does_not_jump_away_from_the_declared_kinks(rule):
    m = dense_grid(rule)
    straddles = torch.zeros(len(m) - 1, dtype=torch.bool)
    for kink in rule.kinks:
        straddles |= (m[:-1] < kink) & (m[1:] > kink)
    slope = rule.slope(m)
    change = slope.diff().abs()[~straddles]
    assert change.max() < 0.02 * slope.abs().max().clamp(min=1)


@pytest.mark.parametrize("rule", [r for r in SETTINGS if r.kinks], ids=id_of)
def test_declared_kinks_are_jumps_of_the_slope(rule):
    for kink in rule.kinks:
        step = 1e-6 * max(1.0, abs(kink))
        below, above = rule.slope(tensor([kink - step, kink + step]))
        assert abs(below - above) > 1e-3


@pytest.mark.parametrize("rule", [r for r in SETTINGS if r.kinks and r.has_loss], ids=id_of)
def test_declared_kinks_are_corners_of_a_continuous_loss(rule):
    for kink in rule.kinks:
        step = 1e-6 * max(1.0, abs(kink))
        left, at, right = rule.loss(tensor([kink - step, kink, kink + step]))
        assert abs(left - at) < 1e3 * step
        assert abs(right - at) < 1e3 * step
        assert abs((at - left) - (right - at)) / step > 1e-3


@pytest.mark.parametrize("rule", [r for r in SETTINGS if r.kinks], ids=id_of)
def test_slope_at_a_kink_is_that_of_one_side(rule):
    for kink in rule.kinks:
        step = 1e-9 * max(1.0, abs(kink))
        below, at, above = rule.slope(tensor([kink - step, kink, kink + step]))
        assert min(abs(at - below), abs(at - above)) < 1e-6


@pytest.mark.parametrize("rule", PLAIN, ids=id_of)
def test_slope_at_each_kink_is_what_was_decided_by_hand(rule):
    expected = AT_KINKS.get(rule.spec, {})
    assert list(rule.kinks) == pytest.approx(list(expected), abs=1e-15), (
        "write the slope at each kink of this rule into AT_KINKS"
    )
    slopes = rule.slope(tensor(list(rule.kinks)))
    torch.testing.assert_close(slopes, tensor(list(expected.values())), rtol=1e-14, atol=0.0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rule", SETTINGS, ids=id_of)
def test_values_are_finite_for_every_finite_margin(rule, dtype):
    limits = torch.finfo(dtype)
    positive = [0.0, limits.smallest_normal / 4, limits.tiny, limits.eps, 0.5, 1.0, 2.0, 3.0]
    positive += [10.0, 89.0, 300.0, 2.0**14, limits.max / 2, limits.max]
    m = tensor([sign * value for value in positive for sign in (1, -1)], dtype)
    assert m.isfinite().all()
    assert m.signbit().sum() == len(positive)
    functions = [rule.slope, rule.loss] if rule.has_loss else [rule.slope]
    for function in functions:
        assert function(m).isfinite().all()


@pytest.mark.parametrize("rule", PLAIN, ids=id_of)
def test_shape_and_dtype_are_kept_and_the_argument_is_left_alone(rule):
    functions = [rule.slope, *([rule.loss, rule.curvature] if rule.has_loss else [])]
    shapes = [(), (0,), (3,), (2, 3, 1, 2)]
    for function, shape, dtype in itertools.product(functions, shapes, DTYPES):
        m = torch.randn(shape, dtype=torch.float64).to(dtype)
        before = m.clone()
        result = function(m)
        assert (result.shape, result.dtype) == (m.shape, dtype)
        assert torch.equal(m, before)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != torch.float64], ids=str)
@pytest.mark.parametrize("rule", PLAIN, ids=id_of)
def test_low_precision_agrees_with_float64(rule, dtype):
    m = dense_grid(rule).to(dtype)
    for kink in rule.kinks:
        # within a rounding of a kink the two may take different sides
        m = m[(m.double() - kink).abs() > 2 * torch.finfo(dtype).eps * max(1.0, abs(kink))]
    low, high = rule.slope(m).double(), rule.slope(m.double())
    torch.testing.assert_close(low, high, rtol=RTOL[dtype], atol=ATOL[dtype])


@pytest.mark.parametrize("rule", PLAIN, ids=id_of)
def test_a_nan_margin_gives_nan_or_a_closed_gate_and_leaves_its_neighbours_alone(rule):
    passes = 1 if rule.name == "ste" else 0
    for dtype in DTYPES:
        m = tensor([0.25, math.nan, 0.75], dtype)
        slopes = rule.slope(m)
        assert slopes[1].isnan() or slopes[1] == passes
        assert torch.equal(slopes[::2], rule.slope(m[::2]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rule", EVEN, ids=id_of)
def test_rules_that_say_so_have_an_even_slope_bit_for_bit(rule, dtype):
    m = torch.cat([dense_grid(rule), tensor([*rule.kinks, 50.0, 1e4])]).to(dtype)
    assert torch.equal(rule.slope(m), rule.slope(-m))


@pytest.mark.parametrize("rule", [r for r in SETTINGS if not r.even], ids=id_of)
def test_rules_that_do_not_say_so_have_a_slope_that_is_not_even(rule):
    m = torch.cat([dense_grid(rule), dense_grid(rule, reach=300.0)])
    assert not torch.allclose(rule.slope(m), rule.slope(-m), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rule", SETTINGS, ids=id_of)
def test_spec_pickle_and_copy_give_the_same_rule(rule):
    for twin in (
        get_rule(rule.spec),
        get_rule(rule),
        pickle.loads(pickle.dumps(rule)),
        copy.deepcopy(rule),
    ):
        assert twin == rule
        assert hash(twin) == hash(rule)
        assert twin.spec == rule.spec
        assert vars(twin) == vars(rule)
    assert rule.spec in repr(rule)
    assert str(rule) == rule.spec


def test_different_settings_are_different_rules():
    assert len(set(SETTINGS)) == len(SETTINGS)
    assert all(one != other for one, other in itertools.combinations(SETTINGS, 2))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_truncated_hinge_and_saturated_ste_have_the_same_slope_bit_for_bit(dtype):
    just = torch.nextafter(tensor([1.0, 1.0, -1.0, -1.0]), tensor([0.0, 2.0, 0.0, -2.0]))
    m = torch.cat([just, tensor([-1.0, 1.0, 0.0, -0.0]), torch.linspace(-3, 3, 601)]).to(dtype)
    hinge, saturated = get_rule("truncated_hinge").slope(m), get_rule("saturated_ste").slope(m)
    assert torch.equal(hinge, saturated)
    assert torch.equal(hinge, torch.where((m >= -1) & (m <= 1), 1.0, 0.0).to(dtype))
    assert torch.equal(get_rule("truncated_hinge").loss(m), get_rule("saturated_ste").loss(m))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_slope_of_ste_is_exactly_one(dtype):
    m = tensor([0.0, -0.0, 1e4, -1e4, torch.finfo(dtype).max, math.inf], dtype)
    assert torch.equal(get_rule("ste").slope(m), torch.ones(6, dtype=dtype))


def test_a_sigmoid_of_scales_two_and_two_is_the_soft_hinge():
    m = torch.linspace(-30, 30, 4001, dtype=torch.float64)
    assert torch.equal(get_rule("Sigmoid2_2").slope(m), get_rule("soft_hinge").slope(m))
    torch.testing.assert_close(get_rule("Sigmoid2_2").loss(m), get_rule("soft_hinge").loss(m))


def test_bumps_keep_their_relative_precision_in_the_tails():
    m = torch.linspace(-40, 40, 2001, dtype=torch.float32)
    exact = tensor([1 / math.cosh(value) ** 2 for value in m.tolist()])
    # 1e-30 keeps clear of denormals
    slopes = get_rule("soft_hinge").slope(m).double()
    torch.testing.assert_close(slopes, exact, rtol=1e-6, atol=1e-30)


def steps_of(name):
    return [get_rule(name).at(progress) for progress in (0.0, 0.25, 0.5, 1.0)]


def test_swish_sign_is_the_formula_of_larq():
    m = torch.linspace(-4, 4, 801, dtype=torch.float64)
    v = 5 * m
    expected = 5 * (2 - v * torch.tanh(v / 2)) / (1 + torch.cosh(v))
    torch.testing.assert_close(get_rule("swish_sign").slope(m), expected, rtol=1e-10, atol=1e-13)


def test_ede_is_the_formula_of_ir_net_with_t_rising_from_a_tenth_to_ten():
    m = torch.linspace(-4, 4, 801, dtype=torch.float64)
    for rule, (t, k) in zip(
        steps_of("ede"), [(0.1, 10.0), (10**-0.5, 10**0.5), (1.0, 1.0), (10.0, 1.0)], strict=True
    ):
        expected = k * t * (1 - torch.tanh(t * m) ** 2)
        torch.testing.assert_close(rule.slope(m), expected, rtol=1e-9, atol=1e-12)


def test_reste_is_the_truncated_derivative_of_a_power_with_o_rising_from_one():
    m = torch.tensor([0.0, 0.05, 0.1, 0.2, 1.0, 1.5, 1.501, 9.0], dtype=torch.float64)
    for rule, turn in zip(
        steps_of("reste"), (0, math.pi / 8, math.pi / 4, math.pi / 2), strict=True
    ):
        o = 1 + 2 * (1 - math.cos(turn))
        line, power = 0.1 ** (1 / o) / 0.1, lambda z, o=o: z ** ((1 - o) / o) / o
        expected = [line, line, line, power(0.2), power(1.0), power(1.5), 0.0, 0.0]
        for side in (m, -m):
            torch.testing.assert_close(rule.slope(side), tensor(expected), rtol=1e-12, atol=0)


def test_a_rule_without_schedule_is_itself_at_every_point_of_training():
    for rule in PLAIN:
        scheduled = "progress" in vars(rule)
        assert (rule.at(0.5) is rule) != scheduled
        if scheduled:
            assert rule.at(0.5).at(0.0) == rule
            assert rule.at(0.5).spec == f"{rule.name}(progress=0.5)"
            with pytest.raises(ValueError, match=f"{rule.name}: progress must lie in"):
                rule.at(1.01)


CONVEX = ("ste", "hinge", "perceptron", "squared_hinge", "square", "adaline", "logistic")
margins = st.floats(-1e3, 1e3)


@pytest.mark.parametrize("name", CONVEX)
@given(a=margins, b=margins, share=st.floats(0, 1))
def test_the_loss_of_an_untruncated_rule_is_convex(name, a, b, share):
    low, high, between = get_rule(name).loss(tensor([a, b, share * a + (1 - share) * b]))
    chord = share * low + (1 - share) * high
    assert between <= chord + 1e-9 * (1 + abs(chord))


@given(a=margins, b=margins)
def test_the_log_sigmoid_is_concave(a, b):
    low, high, between = get_rule("log_sigmoid").loss(tensor([a, b, (a + b) / 2]))
    assert between >= (low + high) / 2 - 1e-9 * (1 + abs(between))
