"""Inputs of all sizes, layouts and magnitudes, and what is kept of them."""

from __future__ import annotations

import itertools

import pytest
import torch

from brevitas_ftprop.ops import binary_sign
from tests.ops.units import DTYPES, OPS, RULE_CLASSES, every_op, input_gradient, rule_parameters


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
