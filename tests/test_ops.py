"""The autograd functions against autograd of the layer losses, formulas and written-out numbers.

On a GPU where there is one, else on the CPU.
"""

import itertools
import math
from contextlib import nullcontext
from fractions import Fraction

import pytest
import torch

from brevitas_ftprop import RULES, Rule
from brevitas_ftprop.ops import (
    binary_sign,
    check_options,
    int_quantize,
    paper_staircase,
    ternary_step,
)

RULE_CLASSES = list(RULES.values())
TOLERANCE = {"rtol": 1e-9, "atol": 1e-12}  # float64
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
DEVICE = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
SECH2_HALF = 1 / math.cosh(0.5) ** 2
SECH2_ONE = 1 / math.cosh(1.0) ** 2


@pytest.fixture(autouse=True)
def tensors_on_the_device():
    with nullcontext() if DEVICE.type == "cpu" else DEVICE:
        yield


def int_staircase(v, lo, hi, rule, weighting, form):
    """The integer quantizer with scale 1 and zero-point 0: clamp(round(v), lo, hi)."""
    one, zero = torch.ones((), dtype=v.dtype), torch.zeros((), dtype=v.dtype)
    return int_quantize(v, one, zero, lo, hi, rule, weighting, form)


def rule_parameters(function):
    return pytest.mark.parametrize("rule", RULE_CLASSES, ids=lambda rule: rule.name)(function)


def layer_gradient(z, grad, rule: Rule, weighting="grad"):
    """``∂/∂z Σ_i w_i·l(t_i·z_i)`` with fixed targets and weights, for one unit per element.

    A rule without a loss is defined by its slope.
    """
    z = z.detach().clone().requires_grad_()
    target = -torch.sign(grad)
    weight = grad.abs() if weighting == "grad" else torch.full_like(grad, 1 / len(grad))
    if not rule.has_loss:
        return -weight * target * rule.slope(target * z.detach())
    loss = (weight * rule.loss(target * z))[target != 0].sum()
    return torch.autograd.grad(loss, z)[0]


def off_kinks(margins, rule: Rule):
    """Elements none of whose margins (one row per unit) is a kink."""
    margins = torch.atleast_2d(margins)
    ok = torch.ones(margins.shape[1:], dtype=torch.bool)
    for kink in rule.kinks:
        ok &= ((margins.abs() - abs(kink)).abs() > 1e-6).all(0)
    return ok


def dense(low, high, count=1201):
    x = torch.linspace(low, high, count, dtype=torch.float64) + 1e-4
    grad = torch.randn(count, dtype=torch.float64)
    grad[::11] = 0
    return x, grad


def input_gradient(function, x, grad):
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(function(x), x, grad)[0]


def agree(actual, expected, where):
    torch.testing.assert_close(actual[where], expected[where], **TOLERANCE)
    assert where.float().mean() > 0.9


@pytest.mark.parametrize("weighting", ["grad", "mean"])
@rule_parameters
def test_sign_gradient_is_autograd_of_the_layer_loss(rule, weighting):
    rule, scale = rule(), 0.5
    x, grad = dense(-3, 3)
    gradient = input_gradient(
        lambda x: binary_sign(x, torch.tensor(scale), rule.spec, weighting), x, grad
    )
    expected = scale * layer_gradient(x / scale, grad, rule, weighting)
    agree(gradient, expected, off_kinks(x / scale, rule))
    assert not gradient[grad == 0].any()


@pytest.mark.parametrize("weighting", ["grad", "mean"])
@pytest.mark.parametrize("form", ["single", "sum"])
@rule_parameters
def test_ternary_gradient_is_autograd_of_the_layer_losses(rule, form, weighting):
    rule, scale, threshold = rule(), 0.25, 0.7
    x, grad = dense(-2, 2)
    gradient = input_gradient(
        lambda x: ternary_step(x, torch.tensor(scale), threshold, rule.spec, weighting, form),
        x,
        grad,
    )
    v = x / (2 * threshold * scale)
    if form == "single":
        units, share = [2 * v / 3], 1.0
    else:
        units, share = [v + 0.5, v - 0.5], 0.5
    expected = scale * share * sum(layer_gradient(u, grad, rule, weighting) for u in units)
    agree(gradient, expected, off_kinks(torch.stack(units), rule))
    assert not gradient[grad == 0].any()


@pytest.mark.parametrize(
    ("rule", "bounds", "form", "weighting"),
    itertools.product(
        RULE_CLASSES,
        [(0, 3), (-2, 1), (-1, 1), (-7, 7), (0, 15)],
        ["single", "sum"],
        ["grad", "mean"],
    ),
)
@pytest.mark.cover(2)
def test_int_staircase_gradient_is_autograd_of_the_layer_losses(rule, bounds, form, weighting):
    rule, (lo, hi) = rule(), bounds
    v, grad = dense(lo - 3, hi + 3)
    bounds = torch.tensor(float(lo)), torch.tensor(float(hi))
    gradient = input_gradient(
        lambda v: int_staircase(v, *bounds, rule.spec, weighting, form), v, grad
    )
    if form == "single":
        units, share = [(2 * v - lo - hi) / (hi - lo + 1)], 1.0
    else:
        units, share = [v - (k + 0.5) for k in range(lo, hi)], 0.5
    expected = share * sum(layer_gradient(u, grad, rule, weighting) for u in units)
    agree(gradient, expected, off_kinks(torch.stack(units), rule))
    assert not gradient[grad == 0].any()


@pytest.mark.parametrize("weighting", ["grad", "mean"])
@pytest.mark.parametrize("form", ["single", "sum"])
@pytest.mark.parametrize("steps", [3, 5])
@rule_parameters
def test_paper_staircase_gradient_is_autograd_of_the_layer_losses(rule, steps, form, weighting):
    rule = rule()
    x, grad = dense(-2, 3)
    gradient = input_gradient(
        lambda x: paper_staircase(x, steps, 1.0, rule.spec, weighting, form), x, grad
    )
    if form == "single":
        units, share = [2 * x - 1], 1.0
    else:
        units, share = [x - k / (steps - 1) for k in range(steps)], 1 / steps
    expected = share * sum(layer_gradient(u, grad, rule, weighting) for u in units)
    agree(gradient, expected, off_kinks(torch.stack(units), rule))


def grid_with_ties(steps, dtype):
    """A dense grid, the thresholds, and their neighbours one ulp away."""
    ties = torch.arange(-2, steps + 3, dtype=dtype) / (steps - 1)
    far = torch.full_like(ties, math.inf)
    grid = torch.linspace(-1, 2, 3001, dtype=dtype)
    return torch.cat([ties, ties.nextafter(far), ties.nextafter(-far), grid])


def assert_levels(y, levels, steps):
    """Exactly these levels, as values k·(1/n) within rounding of k/n."""
    levels = torch.tensor(levels, dtype=y.dtype)
    assert torch.equal((y.double() * steps).round(), levels.double())
    torch.testing.assert_close(y, levels / steps, rtol=2 * torch.finfo(y.dtype).eps, atol=0)
    assert len(y.unique()) == len(levels.unique())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("steps", [2, 3, 5, 9])
def test_paper_staircase_equals_its_formula_in_exact_arithmetic(steps, dtype):
    x = grid_with_ties(steps, dtype)
    levels = [min(max(math.ceil(Fraction(v) * (steps - 1)), 0), steps) for v in x.tolist()]
    assert_levels(paper_staircase(x, steps, 1.0, "soft_hinge", "grad", "single"), levels, steps)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("steps", [4, 7, 255])
def test_paper_staircase_without_exact_thresholds_equals_its_formula_in_its_dtype(steps, dtype):
    x = torch.linspace(-1, 2, 3001, dtype=dtype)
    levels = [min(max(math.ceil(v), 0), steps) for v in (x * (steps - 1)).tolist()]
    assert_levels(paper_staircase(x, steps, 1.0, "soft_hinge", "grad", "single"), levels, steps)


def test_the_two_staircases_of_the_paper_have_its_levels_and_thresholds():
    x = torch.tensor([-0.1, -0.0, 0.0, 1e-7, 0.5, 0.5000001, 1.0, 1.0000001, 9.0])
    levels = paper_staircase(x, 3, 1.0, "ste", "grad", "single")
    assert (levels * 3).round().tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    x = torch.tensor([0.0, 0.1, 0.25, 0.26, 0.5, 0.51, 0.75, 0.76, 1.0, 1.01])
    levels = paper_staircase(x, 5, 1.0, "ste", "grad", "single")
    assert (levels * 5).round().tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]


@pytest.mark.parametrize("steps", [3, 5])
def test_saturated_paper_staircase_passes_from_zero_to_one_ends_included(steps):
    one = torch.tensor(1.0)
    x = torch.stack(
        [torch.tensor(-1e-45), torch.tensor(-0.0), one * 0, one / 2, one, one.nextafter(one * 2)]
    )
    gradient = input_gradient(
        lambda x: paper_staircase(x, steps, 1.0, "saturated_ste", "grad", "single"),
        x,
        torch.full((6,), 2.0),
    )
    assert gradient.tolist() == [0, 2, 2, 2, 2, 0]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        # u = -1, -1/2, 0, 1/2, 1 at v = -1/2, 1/2, 3/2, 5/2, 7/2
        ("single", [SECH2_ONE, SECH2_HALF, 1.0, SECH2_HALF, SECH2_ONE]),
        # thresholds 1/2, 3/2, 5/2
        (
            "sum",
            [
                0.5 * (SECH2_ONE + 1 / math.cosh(2) ** 2 + 1 / math.cosh(3) ** 2),
                0.5 * (1 + SECH2_ONE + 1 / math.cosh(2) ** 2),
                0.5 * (1 + 2 * SECH2_ONE),
                0.5 * (1 + SECH2_ONE + 1 / math.cosh(2) ** 2),
                0.5 * (SECH2_ONE + 1 / math.cosh(2) ** 2 + 1 / math.cosh(3) ** 2),
            ],
        ),
    ],
)
def test_two_bit_soft_hinge_equals_hand_computation(form, expected):
    v = torch.tensor([-0.5, 0.5, 1.5, 2.5, 3.5], dtype=torch.float64)
    gradient = input_gradient(
        lambda v: int_staircase(
            v, torch.tensor(0.0), torch.tensor(3.0), "soft_hinge", "grad", form
        ),
        v,
        torch.ones(5, dtype=torch.float64),
    )
    torch.testing.assert_close(gradient, torch.tensor(expected, dtype=torch.float64), **TOLERANCE)


def test_two_bit_saturated_sum_counts_the_thresholds_within_one():
    v = torch.tensor([-0.6, -0.5, 0.4, 0.5, 1.0, 1.5, 2.0, 3.5, 3.6])
    gradient = input_gradient(
        lambda v: int_staircase(
            v, torch.tensor(0.0), torch.tensor(3.0), "saturated_ste", "grad", "sum"
        ),
        v,
        torch.full((9,), 2.0),
    )
    assert gradient.tolist() == [0, 1, 1, 2, 2, 3, 2, 1, 0]


def test_saturated_paper_sums_equal_hand_computation():
    x = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0, 1.25, 1.75, 2.0, 2.5])
    gradient = input_gradient(
        lambda x: paper_staircase(x, 3, 1.0, "saturated_ste", "grad", "sum"),
        x,
        torch.full((9,), 3.0),
    )
    # thresholds 0, 1/2, 1; each passes within a distance of 1 and counts a third
    torch.testing.assert_close(
        gradient, torch.tensor([1.0, 2, 3, 3, 3, 2, 1, 1, 0]), rtol=1e-6, atol=0
    )


def test_hinge_on_a_ternary_step_equals_hand_computation():
    # scale 2, threshold 1/2: v = x/2; targets +1 for g<0 and -1 for g>0
    x = torch.tensor([-8.0, -2.0, 0.0, 2.0, 8.0, -8.0, 8.0])
    grad = torch.tensor([1.0, 1, 1, 1, 1, -1, -1])
    gradients = {
        form: input_gradient(
            lambda x, form=form: ternary_step(x, torch.tensor(2.0), 0.5, "hinge", "grad", form),
            x,
            grad,
        ).tolist()
        for form in ("single", "sum")
    }
    # single: u = x/3; with g>0 the margin is -u and passes for u >= -1
    assert gradients["single"] == [0, 2, 2, 2, 2, -2, 0]
    # sum: with g>0 a step at ±1/2 passes for v >= -1 ± 1/2
    assert gradients["sum"] == [0, 1, 2, 2, 2, -2, 0]


def test_ternary_forward_leaves_both_thresholds_at_zero():
    x = torch.tensor([-0.51, -0.5, -0.0, 0.0, 0.5, 0.51])
    y = ternary_step(x, torch.tensor(1.0), 0.5, "ste", "grad", "single")
    assert y.tolist() == [-1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sign_of_both_zeros_is_plus_one(dtype):
    tiny = torch.finfo(dtype).smallest_normal
    x = torch.tensor([0.0, -0.0, tiny, -tiny], dtype=dtype)
    y = binary_sign(x, torch.tensor(0.5, dtype=dtype), "ste", "grad")
    assert y.dtype is dtype
    assert y.tolist() == [0.5, 0.5, 0.5, -0.5]


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.1])
def test_saturated_sign_passes_up_to_the_scale_and_not_one_ulp_beyond(scale):
    s = torch.tensor(scale)
    x = torch.stack([s, -s, s.nextafter(s * 2), -s.nextafter(s * 2), s.nextafter(s * 0)])
    gradient = input_gradient(
        lambda x: binary_sign(x, s, "saturated_ste", "grad"), x, torch.ones(5)
    )
    assert gradient.tolist() == [s.item(), s.item(), 0.0, 0.0, s.item()]


@pytest.mark.parametrize(("lo", "hi"), [(0, 3), (-2, 1), (-1, 1), (-8, 7), (0, 255)])
def test_saturated_staircase_passes_exactly_where_the_rounded_value_is_in_range(lo, hi):
    ties = torch.arange(lo - 3, hi + 4) + 0.5
    v = torch.cat([ties, ties.nextafter(ties + 1), ties.nextafter(ties - 1), ties - 0.5])
    gradient = input_gradient(
        lambda v: int_staircase(
            v,
            torch.tensor(float(lo)),
            torch.tensor(float(hi)),
            "saturated_ste",
            "grad",
            "single",
        ),
        v,
        torch.ones_like(v),
    )
    inside = [lo <= round(value) <= hi for value in v.tolist()]
    assert gradient.tolist() == [float(passes) for passes in inside]


def every_op(rule, weighting="grad", form="single"):
    one, lo, hi = torch.tensor(1.0), torch.tensor(-2.0), torch.tensor(1.0)
    return {
        "sign": lambda x: binary_sign(x, one.to(x.dtype), rule, weighting),
        "ternary": lambda x: ternary_step(x, one.to(x.dtype), 0.5, rule, weighting, form),
        "int": lambda x: int_staircase(x, lo.to(x.dtype), hi.to(x.dtype), rule, weighting, form),
        "paper": lambda x: paper_staircase(x, 3, 1.0, rule, weighting, form),
    }


OPS = list(every_op("ste"))


@pytest.mark.parametrize("op", OPS)
def test_truncated_hinge_is_the_saturated_ste_bit_for_bit(op):
    x = torch.cat([torch.randn(500) * 2, torch.linspace(-4, 4, 129)])
    grad = torch.randn_like(x)
    one = input_gradient(every_op("truncated_hinge")[op], x, grad)
    other = input_gradient(every_op("saturated_ste")[op], x, grad)
    assert torch.equal(one, other)


@pytest.mark.parametrize("op", OPS)
def test_ste_passes_the_gradient_bit_for_bit(op):
    x, grad = torch.randn(500) * 3, torch.randn(500)
    assert torch.equal(input_gradient(every_op("ste")[op], x, grad), grad)


@pytest.mark.parametrize(
    ("rule", "op", "dtype", "form"), itertools.product(RULE_CLASSES, OPS, DTYPES, ["single", "sum"])
)
@pytest.mark.cover(2)
def test_extreme_inputs_give_finite_values_of_the_input_dtype(rule, op, dtype, form):
    finfo = torch.finfo(dtype)
    magnitudes = [0.0, finfo.smallest_normal, finfo.tiny, finfo.eps, 1.0, 88.0, 1e3, finfo.max]
    x = torch.tensor([*magnitudes, *(-m for m in magnitudes)], dtype=dtype).repeat(2)
    grad = torch.ones_like(x)
    grad[len(x) // 2 :] = -1
    function = every_op(rule().spec, form=form)[op]
    y, gradient = function(x), input_gradient(function, x, grad)
    assert y.dtype is dtype
    assert gradient.dtype is dtype
    assert y.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("scale", [0.1, 1e-6])
@rule_parameters
def test_a_margin_beyond_the_dtype_gives_no_nan(rule, scale):
    x = torch.tensor([3e38, -3e38]).repeat(3)
    grad = torch.tensor([1.0, 1, -1, -1, 0, 0])
    gradient = input_gradient(
        lambda x: binary_sign(x, torch.tensor(scale), rule().spec, "grad"), x, grad
    )
    assert not gradient.isnan().any()


@pytest.mark.parametrize("weighting", ["grad", "mean"])
@pytest.mark.parametrize("form", ["single", "sum"])
@pytest.mark.parametrize("op", OPS)
def test_empty_inputs_pass_through(op, form, weighting):
    function = every_op("soft_hinge", weighting, form)[op]
    x = torch.empty(0, 3)
    assert input_gradient(function, x, torch.empty(0, 3)).shape == (0, 3)


@pytest.mark.parametrize("form", ["single", "sum"])
@pytest.mark.parametrize("op", OPS)
def test_views_give_what_their_copies_give(op, form):
    function = every_op("hinge", form=form)[op]
    base, grads = torch.randn(6, 4, 5), torch.randn(5, 4, 6)
    transposed = base.transpose(0, 2)
    assert torch.equal(
        input_gradient(function, transposed, grads),
        input_gradient(function, transposed.contiguous(), grads),
    )
    column = torch.randn(4, 1, requires_grad=True)
    expanded = torch.autograd.grad(function(column.expand(4, 3)).sum(), column)[0]
    copied = torch.autograd.grad(function(column.repeat(1, 3)).sum(), column)[0]
    torch.testing.assert_close(expanded, copied)
    # A sum's gradient arrives expanded, with strides of zero.
    x = torch.randn(4, 3, requires_grad=True)
    summed = torch.autograd.grad(function(x).sum(), x)[0]
    assert torch.equal(summed, input_gradient(function, x, torch.ones(4, 3)))


@pytest.mark.parametrize("shape", [(), (1, 3, 1), (2, 1, 1)])
@rule_parameters
def test_sign_scale_gradient_is_the_difference_quotient_of_the_forward(rule, shape):
    rule = rule()
    x, grad = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    scale = torch.rand(shape, dtype=torch.float64) * 0.5 + 0.5
    analytic = torch.autograd.grad(
        binary_sign(x, scale.requires_grad_(), rule.spec, "grad"), scale, grad
    )[0]
    assert analytic.shape == shape
    step = 1e-3
    with torch.no_grad():
        ahead, behind = scale + step, scale - step
        change = grad * (
            binary_sign(x, ahead, rule.spec, "grad") - binary_sign(x, behind, rule.spec, "grad")
        )
        expected = (change / (2 * step)).sum_to_size(shape)
        if rule.clamp_width is not None:
            # stock's clamp, whose ends move with the scale
            end = (rule.clamp_width * scale).expand_as(x)
            sides = (x > end).double() - (x < -end).double()
            expected = expected + (grad * end * sides).sum_to_size(shape)
    torch.testing.assert_close(analytic, expected)


def test_ternary_scale_gradient_is_the_difference_quotient_of_the_forward():
    x = torch.tensor([-2.0, -0.3, 0.0, 0.4, 0.9], dtype=torch.float64)
    grad = torch.tensor([1.0, 2, 4, 8, 16], dtype=torch.float64)
    scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    y = ternary_step(x, scale, 0.5, "soft_hinge", "grad", "single")
    assert torch.autograd.grad(y, scale, grad)[0].item() == 16 - 1


@pytest.mark.parametrize("form", ["single", "sum"])
def test_bounds_receive_the_gradient_of_the_units_clipped_there(form):
    v = torch.tensor([-3.0, -0.5, -0.6, 1.0, 3.4, 3.5, 9.0])
    grad = torch.tensor([1.0, 2, 4, 8, 16, 32, 64])
    lo, hi = torch.tensor(0.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    y = int_staircase(v, lo, hi, "soft_hinge", "grad", form)
    grad_lo, grad_hi = torch.autograd.grad(y, (lo, hi), grad)
    # -0.5 rounds to -0, inside; 3.5 rounds to 4, outside
    assert (grad_lo.item(), grad_hi.item()) == (1 + 4, 32 + 64)


def test_int_staircase_equals_clamping_the_rounded_value():
    v = torch.cat([torch.randn(300) * 4, torch.arange(-6, 6) + 0.5])
    lo, hi = torch.tensor(-2.0), torch.tensor(1.0)
    y = int_staircase(v, lo, hi, "ste", "grad", "single")
    assert torch.equal(y, v.round().clamp(-2, 1))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("form", ["single", "sum"])
def test_what_backward_keeps_does_not_grow_with_the_levels(op, form):
    def kept(function):
        sizes = []

        def pack(tensor):
            sizes.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            function(torch.randn(1000, requires_grad=True))
        return sum(sizes)

    assert kept(every_op("soft_hinge", form=form)[op]) <= 4 * 1000 + 24


@pytest.mark.parametrize("op", OPS)
def test_mean_weighting_is_refused_in_half_precision(op):
    x = torch.randn(4, 3, dtype=torch.float16)
    with pytest.raises(ValueError, match="loss scaling"):
        every_op("hinge", "mean")[op](x)
    with (
        torch.autocast(DEVICE.type, torch.float16),
        pytest.raises(ValueError, match="loss scaling"),
    ):
        every_op("hinge", "mean")[op](x.float())
    with torch.autocast(DEVICE.type, torch.bfloat16):
        every_op("hinge", "mean")[op](x.float())


@pytest.mark.parametrize("op", OPS)
def test_second_derivatives_are_refused(op):
    x = torch.randn(4, requires_grad=True)
    weight = torch.ones(4, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        (every_op("soft_hinge")[op](x) * weight).sum(), x, create_graph=True
    )
    with pytest.raises(RuntimeError, match="differentiated once"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("no_such_rule", "grad", "single"), "soft_hinge"),
        (("hinge", "sum", "single"), "grad, mean"),
        (("hinge", "grad", "double"), "single, sum"),
    ],
)
def test_unknown_options_are_refused_and_the_valid_ones_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        check_options(*options)


def test_options_give_the_canonical_spec_of_the_rule():
    assert check_options("SSTE", "mean", "sum") == "saturated_ste"
    assert check_options(RULES["saturated_ste"](width=2.0), "grad", "sum").startswith("saturated")
