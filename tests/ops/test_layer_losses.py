"""The gradients of all steps against autograd of their layer losses."""

from __future__ import annotations

import itertools

import pytest
import torch

from brevitas_ftprop.ops import binary_sign, paper_staircase, ternary_step
from tests.ops.units import (
    RULE_CLASSES,
    agree,
    dense,
    input_gradient,
    int_staircase,
    layer_gradient,
    off_kinks,
    rule_parameters,
)


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
