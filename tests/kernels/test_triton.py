"""The Triton backend equals eager: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from brevitas_ftprop.kernels import (
    Asked,
    Integers,
    Keep,
    Needs,
    Operands,
    Sign,
    codable,
    error_bound,
    has_constant_slope,
)
from brevitas_ftprop.kernels.backends import eager, triton_backend
from brevitas_ftprop.kernels.codes import is_two_valued
from brevitas_ftprop.kernels.saved_forms import compact
from brevitas_ftprop.rules import RULES, get_rule
from tests.kernels.on_triton import (
    DEVICE,
    STEPS,
    TOLERANCE,
    assert_equal,
    assert_gradients_equal,
    edges,
    gradient_like,
    needs_kernels,
    needs_of,
    number,
    operands_of,
    silent,
)
from tests.kernels.steps_under_test import CASES, inputs

pytestmark = [needs_kernels, silent]


BUILT_IN = [name for name, rule in RULES.items() if rule.__module__.startswith("brevitas_ftprop")]
# Slopes of an exponential or a quotient; the others equal eager's to the bit in every dtype.
SMOOTH = {
    "ede",
    "lecun_tanh",
    "log_hinge",
    "log_sigmoid",
    "logistic",
    "reste",
    "sigmoid",
    "soft_hinge",
    "swish_sign",
    "truncated_log_hinge",
    "truncated_logistic",
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.cover(1)
def test_a_rule_passes_what_it_passes_in_eager(name, dtype):
    rule = get_rule(name)
    tolerance = TOLERANCE[dtype] if name in SMOOTH else 0.0
    x = edges(dtype)
    grad = gradient_like(x)
    # Interpreted kernels take long: every step meets either weighting with half of the rules.
    for i, step in enumerate(STEPS[:: 1 if dtype is torch.float32 else 2]):
        operands = operands_of(step)
        y, _ = eager.forward(step, x, operands, rule, Keep.INPUT)
        assert_equal(triton_backend.forward(step, x, operands, rule, Keep.INPUT)[0], y)
        weighting = ("grad", "mean")[(i + BUILT_IN.index(name)) % 2]
        rest = grad, x, operands, rule, Asked(weighting, Needs(), 4)
        expected = eager.backward(step, *rest).x
        assert_equal(triton_backend.backward(step, *rest).x, expected, tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.cover(1)
def test_thresholds_and_kinks_stand_where_they_do_in_eager_to_the_ulp(name, dtype):
    case, rule = CASES[name], get_rule("truncated_hinge(scale=0.7)")
    x, grad = (each.to(DEVICE) for each in inputs(case, dtype))
    operands = Operands(*(each if each is None else each.to(DEVICE) for each in case.operands()))
    y, code = triton_backend.forward(case.step, x, operands, rule, Keep.CODE)
    expected, code_of_eager = eager.forward(case.step, x, operands, rule, Keep.CODE)
    assert_equal(y, expected)
    assert torch.equal(code, code_of_eager)
    rest = grad, x, operands, rule, Asked("grad", Needs(), 5)
    assert_equal(triton_backend.backward(case.step, *rest).x, eager.backward(case.step, *rest).x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", [name for name in BUILT_IN if codable(get_rule(name))])
@pytest.mark.cover(1)
def test_each_of_the_backends_reads_the_code_that_the_other_wrote(name, dtype):
    rule = get_rule(name)
    x = edges(dtype)
    x = x[x.isfinite()]
    grad = gradient_like(x)
    for step in STEPS[:: 1 if dtype is torch.float32 else 3]:
        operands = operands_of(step)
        y, code = triton_backend.forward(step, x, operands, rule, Keep.CODE)
        expected, code_of_eager = eager.forward(step, x, operands, rule, Keep.CODE)
        assert_equal(y, expected)
        if is_two_valued(step, rule):
            assert torch.equal(code, code_of_eager)
        for each in (code, code_of_eager):
            rest = each, operands, rule, Asked("mean", Needs(), 4)
            by_eager = eager.backward(step, grad, *rest).x
            assert_equal(triton_backend.backward(step, grad, *rest).x, by_eager, 1e-6)
        target = eager.sign_target(step.enter(grad, operands))
        coded = eager.decode(step, code, operands, rule, None if rule.even else target, grad)
        exact = step.slope(x, operands, rule, target)
        exact = exact if step.gate(x) is None else exact * step.gate(x)
        assert code.dtype is torch.uint8
        bound = error_bound(step, operands, rule) + TOLERANCE[dtype] * float(exact.abs().max())
        # Where the gradient is 0 there is no target, and any slope will do.
        assert float(((coded - exact).abs() * grad.ne(0)).max()) <= bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_halves_are_written_to_the_bit_denormals_infinities_and_nan_included(dtype):
    grid = torch.logspace(-50, 20, 141, base=2, dtype=torch.float64).to(dtype)
    limits = torch.finfo(dtype)
    far = torch.tensor([0.0, 65503.9, 65504.0, 65520.0, limits.max, limits.tiny, torch.inf])
    far = torch.cat([far.to(dtype), torch.tensor([limits.smallest_normal / 2], dtype=dtype)])
    near = torch.cat([grid, grid * (1 + limits.eps), grid * (1 + 2**-11), far])
    x = torch.cat([near, -near, torch.tensor([torch.nan], dtype=dtype)]).to(DEVICE)
    for step in STEPS:
        for scale in (number(1.0), number(0.3)):
            operands = operands_of(step, scale)
            _, half = triton_backend.forward(step, x, operands, get_rule("square"), Keep.HALF)
            expected = compact(Keep.HALF, step, x, operands, get_rule("square"))
            # Which of the many NaNs is the processor's affair.
            assert torch.equal(half[:-1], expected[:-1])
            assert half.view(torch.float16)[-1].isnan()


@pytest.mark.parametrize("rounding", ["ceil", "floor", "trunc"])
def test_denormal_numbers_are_rounded_as_the_numbers_they_are(rounding):
    x = torch.tensor([1e-40, -1e-40, 1e-45, -1e-45, 0.0, -0.0, 0.5, -0.5, 1.0, -1.0], device=DEVICE)
    operands = Operands(number(1.0), number(0.0), number(-3.0), number(3.0))
    y, _ = triton_backend.forward(
        Integers(rounding, "single"), x, operands, get_rule("ste"), Keep.NOTHING
    )
    assert_equal(y, getattr(torch, rounding)(x))


@pytest.mark.parametrize("name", ["saturated_ste", "hinge", "soft_hinge", "square"])
def test_halves_are_those_of_eager(name):
    rule = get_rule(name)
    x = edges(torch.float32)
    x = x[x.isfinite()]
    grad = gradient_like(x)
    for step in STEPS:
        operands = operands_of(step)
        half, expected = (
            m.forward(step, x, operands, rule, Keep.HALF)[1] for m in (triton_backend, eager)
        )
        assert torch.equal(half, expected)
        rest = grad, half, operands, rule, Asked("grad", Needs(scale=operands.scale is not None), 4)
        ours, theirs = triton_backend.backward(step, *rest), eager.backward(step, *rest)
        assert_equal(ours.x, theirs.x, TOLERANCE[torch.float32] if name in SMOOTH else 0.0)
        if theirs.scale is not None:
            # Of the terms that are summed, each of a slope that may grow with the input.
            size = float(((grad.abs() + theirs.x.abs()) * x.clamp(-1e4, 1e4).abs()).sum())
            assert float((ours.scale - theirs.scale).abs().max()) <= 1e-5 * size


@pytest.mark.parametrize(
    "name", ["ede", "reste", "truncated_hinge(scale=0.3)", "sigmoid(x_scale=9)"]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_parameters_reach_the_kernels_in_full_precision(name, dtype):
    x = edges(dtype)
    grad = gradient_like(x)
    for progress in (0.0, 0.37, 1.0):
        rule = get_rule(name).at(progress)
        rest = grad, x, operands_of(Sign()), rule, Asked("grad", Needs(), 1)
        expected = eager.backward(Sign(), *rest).x
        assert_equal(triton_backend.backward(Sign(), *rest).x, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("rounding", ["round", "ceil", "floor", "trunc"])
def test_integers_are_rounded_as_in_eager_zeros_of_either_sign_included(rounding, dtype):
    step = Integers(rounding, "single")
    x = torch.cat([torch.arange(-21, 22) / 4, torch.tensor([-0.0, 1e-3, -1e-3])])
    large = torch.tensor([2.0**22 + 0.5, -(2.0**22) - 0.5, 2.0**23 + 1, 2.0**52 + 1])
    x = torch.cat([x.double(), large.double()]).to(dtype).to(DEVICE)
    bound = number(1e9, torch.float64)
    operands = Operands(number(1.0), number(0.0), -bound, bound)
    if dtype is torch.float16:
        operands = operands._replace(lo=number(-60000.0), hi=number(60000.0))
    y, _ = triton_backend.forward(step, x, operands, get_rule("ste"), Keep.NOTHING)
    expected, _ = eager.forward(step, x, operands, get_rule("ste"), Keep.NOTHING)
    assert_equal(y, expected)
    # Eager has found out, on a CPU, that there is no zero-point to be added to -0.
    some = x.ne(0)
    assert torch.equal(torch.signbit(y)[some], torch.signbit(expected)[some])


def test_a_rounding_of_the_callers_own_takes_the_place_of_ours():
    x = edges(torch.float32)
    x = x[x.isfinite() & (x.abs() < 1e9)]
    rounded = (x / 0.3 + 1).add(torch.rand_like(x)).floor()
    operands = operands_of(Integers("round", "single"))._replace(rounded=rounded)
    grad = gradient_like(x)
    for form, name in (("single", "saturated_ste"), ("single", "hinge"), ("sum", "hinge")):
        step, rule = Integers("round", form), get_rule(name)
        y, code = triton_backend.forward(step, x, operands, rule, Keep.CODE)
        expected, code_of_eager = eager.forward(step, x, operands, rule, Keep.CODE)
        assert_equal(y, expected)
        assert torch.equal(code, code_of_eager)
        rest = grad, x, operands, rule, Asked("grad", needs_of(step), 1)
        assert_gradients_equal(triton_backend.backward(step, *rest), eager.backward(step, *rest), x)


def test_a_constant_slope_needs_nothing_that_was_kept():
    grad = gradient_like(torch.randn(50, device=DEVICE))
    rule = get_rule("ste")
    for step in STEPS:
        if not has_constant_slope(step, rule):
            continue
        rest = grad, None, operands_of(step), rule, Asked("mean", Needs(), 50)
        assert_equal(triton_backend.backward(step, *rest).x, eager.backward(step, *rest).x)
