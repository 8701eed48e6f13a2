"""Every backend against the eager one, which is the meaning."""

import itertools
import logging

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from brevitas_ftprop import RULES, Rule, get_rule, register
from brevitas_ftprop.kernels import (
    BACKENDS,
    ENVIRONMENT_VARIABLE,
    Asked,
    Keep,
    Needs,
    Operands,
    Sign,
    backend,
    choose_backend,
    codable,
)
from brevitas_ftprop.kernels.backends import blocked, eager
from brevitas_ftprop.kernels.backends.compiled import COMPILABLE
from brevitas_ftprop.ops import binary_sign, int_quantize
from tests.kernels.on_triton import needs_kernels
from tests.kernels.steps_under_test import CASES, DTYPES, inputs

CPU = torch.device("cpu")
RULE_CLASSES = list(RULES.values())
CODABLE = [rule for rule in RULE_CLASSES if codable(rule())]
# In units of the dtype's precision: an exponential at the end of a block or by its shortcut, each
# of whose formulas rounds a few times; sums in another order.
ULPS, SUM_ULPS = 8, 100


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocked, "BLOCK", 64)


def agree(actual, expected):
    limits = torch.finfo(expected.dtype)
    options = {"rtol": ULPS * limits.eps, "atol": limits.tiny}
    torch.testing.assert_close(actual, expected, **options, equal_nan=True)


def backward_of(module, case, grad, kept, rule, weighting, needs):
    operands = case.operands(grad.dtype)
    return module.backward(
        case.step, grad, kept, operands, rule, Asked(weighting, needs, len(grad))
    )


@pytest.mark.parametrize(("rule", "name", "dtype"), itertools.product(RULE_CLASSES, CASES, DTYPES))
@pytest.mark.cover(2)
def test_blocks_compute_what_eager_does(rule, name, dtype):
    case, rule = CASES[name], rule()
    x, grad = inputs(case, dtype)
    operands = case.operands(dtype)
    (y, _), (expected, _) = (
        module.forward(case.step, x, operands, rule, Keep.INPUT) for module in (blocked, eager)
    )
    assert torch.equal(y.nan_to_num(9.0), expected.nan_to_num(9.0))
    for weighting in ("grad", "mean"):
        one, other = (
            backward_of(module, case, grad, x, rule, weighting, Needs())
            for module in (blocked, eager)
        )
        agree(*gradients_to_compare(x, rule, one.x, other.x))


def gradients_to_compare(x, rule, *gradients):
    """At NaN the backward pass of torch's clamp, a shortcut, passes a gradient or not."""
    if rule.clamp_width is None:
        return gradients
    return [gradient[~x.isnan()] for gradient in gradients]


@pytest.mark.parametrize(
    ("rule", "name", "dtype"),
    itertools.product(["saturated_ste", "soft_hinge", "hinge", "ste"], CASES, DTYPES),
)
@pytest.mark.cover(2)
def test_blocks_sum_to_what_eager_does(rule, name, dtype):
    case, rule = CASES[name], RULES[rule]()
    # Without infinities and NaN, whose sums are no numbers.
    x, grad = inputs(case, dtype)
    x = x.nan_to_num(0.5).clamp(-9, 9)
    one, other = (
        backward_of(module, case, grad, x, rule, "grad", case.needs) for module in (blocked, eager)
    )
    precision = SUM_ULPS * torch.finfo(dtype).eps
    for actual, expected, wanted in zip(one[1:], other[1:], case.operands(), strict=False):
        assert (actual is None) == (expected is None) == (wanted is None)
        if actual is not None:
            size = grad.abs().sum().item()
            torch.testing.assert_close(
                actual.to(dtype), expected.to(dtype), rtol=precision, atol=precision * size
            )


@pytest.mark.parametrize(
    ("rule", "name", "dtype"), itertools.product(CODABLE, CASES, [torch.float32, torch.bfloat16])
)
@pytest.mark.cover(2)
def test_blocks_code_slopes_as_eager_does(rule, name, dtype):
    case, rule = CASES[name], rule()
    x, grad = inputs(case, dtype)
    (_, code), (_, expected) = (
        module.forward(case.step, x, case.operands(dtype), rule, Keep.CODE)
        for module in (blocked, eager)
    )
    # A slope may lie between two codes to the last bit, and an exponential decide which it is.
    assert ((code.int() - expected.int()).abs() <= (0 if rule.two_valued else 1)).all()
    one, other = (
        backward_of(module, case, grad, code, rule, "grad", Needs()) for module in (blocked, eager)
    )
    agree(one.x, other.x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("rule", ["saturated_ste", "soft_hinge", "adaline"])
def test_blocks_keep_halves_as_eager_does(rule, name, dtype):
    case, rule = CASES[name], RULES[rule]()
    x, grad = inputs(case, dtype)
    x = x.nan_to_num(0.5).clamp(-9, 9)
    (y, half), (expected_y, expected) = (
        module.forward(case.step, x, case.operands(dtype), rule, Keep.HALF)
        for module in (blocked, eager)
    )
    assert torch.equal(y, expected_y)
    assert torch.equal(half, expected)
    one, other = (
        backward_of(module, case, grad, half, rule, "grad", case.needs)
        for module in (blocked, eager)
    )
    agree(one.x, other.x)
    if case.scale is not None:
        precision = SUM_ULPS * torch.finfo(dtype).eps
        torch.testing.assert_close(
            one.scale.to(dtype), other.scale, rtol=precision, atol=precision * grad.abs().sum()
        )


@settings(deadline=None, max_examples=60)
@given(
    rule=st.sampled_from(["saturated_ste", "soft_hinge", "truncated_hinge(scale=3.0)", "ramp"]),
    name=st.sampled_from(list(CASES)),
    values=st.lists(st.floats(width=32, allow_nan=True), max_size=200),
    layout=st.sampled_from(["whole", "every other", "expanded", "scalar"]),
    order=st.permutations(range(4)),
    saved=st.sampled_from(["exact", "compact"]),
)
def test_any_values_in_any_layout_give_the_same(rule, name, values, layout, order, saved):
    case = CASES[name]
    x = arranged(torch.tensor(values, dtype=torch.float32), layout, order)
    assume(x.dim() == 4 or all(each is None or not each.dim() for each in case.operands()))
    assume("per row" not in name or x.shape[0] == 5)
    results = []
    for backend_name in ("eager", "blocked"):
        own = x.detach().requires_grad_()
        y = call(case, own, rule, backend_name, saved)
        y.backward(torch.linspace(-1, 1, y.numel()).view(y.shape))
        results.append((y.detach(), own.grad))
    (y, gradient), (expected_y, expected) = results
    agree(y, expected_y)
    # As torch's own elementwise operations have it; without elements there is no layout.
    assert not x.numel() or y.stride() == torch.empty_like(x).stride()
    agree(*gradients_to_compare(x, get_rule(rule), gradient, expected))


def arranged(values, layout, order):
    if layout == "scalar":
        return values.sum()
    if layout == "expanded":
        return values[:4, None, None, None].expand(-1, 3, 2, 5)
    whole = values[: len(values) // 30 * 30].view(-1, 3, 2, 5)
    whole = whole.permute(order).contiguous().permute([order.index(i) for i in range(4)])
    return whole[..., ::2] if layout == "every other" else whole


def call(case, x, rule, backend_name, saved="exact"):
    """The operator of a case."""
    operands = case.operands()
    y, _ = torch.ops.brevitas_ftprop.quantize(
        x, *operands, case.step.spec, rule, "grad", saved, backend_name
    )
    return y


# What the operator's shapes and gradients depend on: its step, and the shapes of its operands.
REGISTERED = {
    "sign, single",
    "ternary, single",
    "int2 of one element, single",
    "uint4 per channel, single",
    "int4 per row, sum",
    "relu, shifted, single",
    "staircase3, single",
}


@pytest.mark.parametrize("saved", ["exact", "compact"])
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in REGISTERED)) for name in CASES],
)
@pytest.mark.cover(1)
def test_the_operator_is_registered_as_torch_asks(name, saved):
    case = CASES[name]
    x, _ = inputs(case, torch.float32)
    x = x.nan_to_num(0.5).clamp(-9, 9).requires_grad_()
    arguments = (case.step.spec, "soft_hinge", "grad", saved, "auto")
    torch.library.opcheck(
        torch.ops.brevitas_ftprop.quantize.default, (x, *case.operands(), *arguments)
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[needs_kernels] * (name == "triton"))
        for name in BACKENDS
        if name != "compiled" or COMPILABLE
    ],
)
def test_a_backward_pass_gives_the_dtypes_that_the_compiler_is_promised(name):
    x, grad = torch.randn(8, 4), torch.randn(8, 4)
    case = CASES["uint2, single"]
    gradients = torch.ops.brevitas_ftprop.quantize_backward(
        *(grad, x, *case.operands(), case.step.spec, "hinge", "grad", name), *(8, True, True, True)
    )
    assert {each.dtype for each in gradients} == {torch.float32}


def test_an_unknown_backend_is_refused_and_the_known_are_named(monkeypatch):
    x, one = torch.randn(3), torch.tensor(1.0)
    with pytest.raises(ValueError, match=r"^backend must be auto or one of eager, .* not 'fast'"):
        binary_sign(x, one, "hinge", "grad", backend="fast")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "quick")
    with pytest.raises(ValueError, match=r"^BREVITAS_FTPROP_BACKEND must be .* not 'quick'"):
        binary_sign(x, one, "hinge", "grad")


def test_the_environment_chooses_where_a_call_does_not(monkeypatch):
    what = CPU, Sign(), Operands(torch.tensor(1.0)), RULES["hinge"]()
    assert choose_backend("auto", *what) is blocked
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "eager")
    assert choose_backend("auto", *what) is eager
    assert choose_backend("blocked", *what) is blocked


class Refusing:
    """A backend that computes nothing."""

    def reason_against(self, *what):
        return "it is Sunday"


def test_what_was_asked_for_works_or_raises_and_a_fallback_is_logged_once(monkeypatch, caplog):
    monkeypatch.setitem(BACKENDS, "resting", Refusing())
    monkeypatch.setitem(backend.AUTOMATIC, "cpu", ("resting", "eager"))
    what = CPU, Sign(), Operands(torch.tensor(1.0)), RULES["hinge"]()
    with pytest.raises(ValueError, match="backend=resting cannot compute this step: it is Sunday"):
        choose_backend("resting", *what)
    with caplog.at_level(logging.INFO, logger="brevitas_ftprop"):
        assert choose_backend("auto", *what) is eager
        assert choose_backend("auto", *what) is eager
    assert [record.getMessage() for record in caplog.records] == [
        "not using the resting backend: it is Sunday"
    ]


def test_a_fallback_on_a_gpu_is_a_warning_once_with_its_reason(monkeypatch, caplog):
    monkeypatch.setitem(BACKENDS, "triton", Refusing())
    backend._log_once.cache_clear()
    what = torch.device("cuda:0"), Sign(), Operands(torch.tensor(1.0)), RULES["hinge"]()
    for _ in range(2):
        assert choose_backend("auto", *what) is eager
    messages = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert messages == [("WARNING", "not using the triton backend: it is Sunday")]


def test_a_rule_of_a_users_own_runs_in_blocks():
    @register
    class Bump(Rule):
        """A rule of a user's."""

        name = "bump"
        even = True

        def slope(self, m):
            return 1 / (1 + m * m)

    try:
        x = torch.randn(1000, requires_grad=True)
        expected = 0.5 / (1 + (x.detach() / 0.5) ** 2)
        for saved, precision in (("exact", 1e-6), ("compact", 2 / 1000)):
            y = binary_sign(x, torch.tensor(0.5), "bump", "grad", saved)
            (gradient,) = torch.autograd.grad(y.sum(), x)
            torch.testing.assert_close(gradient, expected, rtol=precision, atol=0)
    finally:
        del RULES["bump"]


def test_an_own_rounding_takes_the_place_of_the_rounding():
    x = torch.linspace(-1, 4, 400, requires_grad=True)
    one, zero, three = torch.tensor(1.0), torch.tensor(0.0), torch.tensor(3.0)
    half_up = torch.floor(x.detach() + 0.5)
    y = int_quantize(x, one, zero, zero, three, "saturated_ste", "grad", "single", rounded=half_up)
    assert torch.equal(y, half_up.clamp(0, 3))
    y.sum().backward()
    assert torch.equal(x.grad, ((half_up >= 0) & (half_up <= 3)).float())


def test_a_scale_that_does_not_fit_and_an_unknown_form_are_refused():
    x, three = torch.randn(4), torch.ones(3, 1)
    with pytest.raises(ValueError, match=r"shape \(3, 1\) does not broadcast .* shape \(4,\)"):
        binary_sign(x, three, "hinge", "grad")
    with pytest.raises(ValueError, match="saved must be one of exact, compact, not 'Compact'"):
        binary_sign(x, torch.tensor(1.0), "hinge", "grad", "Compact")


def test_a_subclass_with_another_slope_is_no_clamp():
    class Half(RULES["saturated_ste"]):
        """Passes half of the gradient."""

        name = "half"

        def slope(self, m):
            return 0.5 * super().slope(m)

        def loss(self, m):
            return 0.5 * super().loss(m)

    register(Half)
    try:
        x = torch.linspace(0, 0.9, 300, requires_grad=True)
        one, zero, three = torch.tensor(1.0), torch.tensor(0.0), torch.tensor(3.0)
        (binary_sign(x, one, "half", "grad")).sum().backward()
        assert (x.grad == 0.5).all()
        x.grad = None
        int_quantize(x, one, zero, zero, three, "half", "grad", "single").sum().backward()
        assert (x.grad == 0.5).all()
    finally:
        del RULES["half"]


def test_infinities_that_a_relu_blocks_do_not_reach_the_scale_of_a_large_input():
    x = torch.linspace(-1, 4, 400)
    x[3] = -torch.inf
    zero, three = torch.tensor(0.0), torch.tensor(3.0)
    gradients = []
    for name in ("eager", "blocked"):
        scale = torch.tensor(0.7, requires_grad=True)
        own = x.clone().requires_grad_()
        y = int_quantize(
            own, scale, zero, zero, three, "soft_hinge", "grad", "single", relu=True, backend=name
        )
        gradients.append(torch.autograd.grad(y.sum(), scale)[0])
    assert gradients[0].isfinite()
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("dtype", "scale"), [(torch.float16, 4e4), (torch.float32, 2e38), (torch.float32, torch.inf)]
)
def test_signs_of_the_largest_scales_are_those_of_eager(dtype, scale):
    x, scale = torch.randn(400).to(dtype), torch.tensor(scale, dtype=dtype)
    y = binary_sign(x, scale, "hinge", "grad", backend="blocked")
    assert torch.equal(y, torch.where(x >= 0, scale, -scale))


@pytest.mark.parametrize("scale", [1e-44, 1e-40, 3e37])
def test_extreme_scales_give_the_same(scale):
    x = torch.linspace(-2, 3, 301).mul(scale).requires_grad_()
    scale, zero, one = torch.tensor(scale), torch.tensor(0.0), torch.tensor(1.0)
    gradients = []
    for name in ("eager", "blocked"):
        y = int_quantize(x, scale, zero, zero, one, "saturated_ste", "grad", "single", backend=name)
        gradients.append(torch.autograd.grad(y.sum(), x)[0])
    agree(*gradients)
