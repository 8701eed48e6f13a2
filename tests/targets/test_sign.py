"""Targets from the sign of the incoming gradient, and the weights of the units' losses."""

import pytest
import torch

from brevitas_ftprop.targets import WEIGHTINGS, check_weighting, sign_target, weighted_sign

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_target_is_minus_the_sign_of_the_gradient_and_zero_where_it_is_zero(dtype):
    extremes = torch.finfo(dtype)
    grad = torch.tensor(
        [extremes.max, extremes.tiny, extremes.smallest_normal, 0.0, -0.0, -extremes.tiny, -2.5],
        dtype=dtype,
    )
    target = sign_target(grad)
    assert target.dtype is dtype
    assert target.tolist() == [-1, -1, -1, 0, 0, 1, 1]


def test_loss_weighting_returns_the_gradient_itself():
    grad = torch.tensor([[1.5, -0.0], [-3e38, 1e-45]])
    assert weighted_sign(grad, "grad", 2).tolist() == grad.tolist()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_mean_weighting_divides_the_sign_by_the_batch_size(dtype):
    grad = torch.tensor([[2.0, -0.5, 0.0], [-7.0, 1e-3, -0.0]], dtype=dtype)
    weighted = weighted_sign(grad, "mean", 2)
    assert weighted.dtype is dtype
    assert weighted.tolist() == [[0.5, -0.5, 0.0], [-0.5, 0.5, 0.0]]


def test_mean_weighting_ignores_the_scale_of_the_loss():
    grad = torch.randn(8, 3)
    assert torch.equal(weighted_sign(grad, "mean", 8), weighted_sign(grad * 1024, "mean", 8))


def test_mean_weighting_takes_a_scalar_and_an_empty_batch():
    assert weighted_sign(torch.tensor(-3.0), "mean", 1).item() == -1
    assert weighted_sign(torch.empty(0, 4), "mean", 0).shape == (0, 4)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_known_weightings_pass_the_check(weighting):
    assert check_weighting(weighting) == weighting


@pytest.mark.parametrize("weighting", ["sum", "", None, 1])
def test_an_unknown_weighting_is_refused_and_the_valid_ones_are_named(weighting):
    with pytest.raises(ValueError, match="grad, mean"):
        check_weighting(weighting)
