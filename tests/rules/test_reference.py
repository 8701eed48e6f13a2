"""The reference implementation's rules, by their names there, against their formulas in plain math.

The formulas are those that each loss of the reference computes; constants in them are its own.
"""

import math

import pytest
import torch

from brevitas_ftprop.rules import RULES, get_rule


def hinge(m, margin=1.0, limit=math.inf, scale=1.0):
    return min(limit, max(0.0, (margin - m) * scale))


def log_hinge(m):
    return math.log(2 - min(1, max(-1, m)))


def sigmoid(m, x, y):
    return y / (1 + math.exp(x * m))


def one_sided_square(m):
    return (1 - min(m, 1)) ** 2


REFERENCE_LOSS = {
    "WtHinge": hinge,
    "WeightedPerceptron": lambda m: hinge(m, margin=0),
    "Adaline": lambda m: (1 - m) ** 2 / 2,
    "STE": lambda m: -m,
    "SSTE": lambda m: hinge(m, limit=2),
    "TruncWtHinge": lambda m: hinge(m, limit=2),
    "LogWtHinge": log_hinge,
    "TruncWtL2Hinge": lambda m: max(0, 1 - max(m, -1)) ** 2 / 2,
    "TruncLogWtHinge": lambda m: min(2, 2 * log_hinge(m)),
    "TruncWtPerceptron": lambda m: hinge(m, margin=0, limit=1),
    "Sigmoid": lambda m: sigmoid(m, 2, 1),
    "LogLoss": lambda m: math.log(1 + math.exp(-m)),
    "TruncLogLoss": lambda m: min(2, math.log(1 + math.exp(-m))),
    "SquareLoss": one_sided_square,
    "TruncSquareLoss": lambda m: min(4, one_sided_square(m)),
    "TruncWtHinge2": lambda m: hinge(m, limit=2, scale=2),
    "Sigmoid2_2": lambda m: sigmoid(m, 2, 2),
    "LogSigmoid": lambda m: math.log(sigmoid(m, 2, 1)),
    # the reference subtracts 1, a constant that has no gradient
    "TruncWtHinge11": lambda m: hinge(m, limit=2),
    "SoftHinge": lambda m: 1 + math.tanh(-m),
    "SoftHinge2": lambda m: 1 + math.tanh(-2 * m),
    "Sigmoid3_2": lambda m: sigmoid(m, 3, 2),
    "SSTEv2": lambda m: min(math.sqrt(12), max(0, math.sqrt(12) / 2 - m)),
    "LeCunTanh": lambda m: 1 + 1.7519 * math.tanh(-2 * m / 3),
}

# Slopes of the backward passes there, which are not all given by a loss there.
REFERENCE_SLOPE = {
    "WeightedPerceptron": lambda m: float(m <= 0),
    "Adaline": lambda m: 1 - m,
    "STE": lambda m: 1.0,
    "SSTE": lambda m: float(abs(m) <= 1),
    "SSTEv2": lambda m: float(abs(m) <= math.sqrt(12) / 2),
    "TruncWtHinge": lambda m: float(-1 <= m <= 1),
    "Sigmoid": lambda m: 2 * sigmoid(m, 2, 1) * (1 - sigmoid(m, 2, 1)),
    "Sigmoid2_2": lambda m: 4 * sigmoid(m, 2, 1) * (1 - sigmoid(m, 2, 1)),
    "Sigmoid3_2": lambda m: 6 * sigmoid(m, 3, 1) * (1 - sigmoid(m, 3, 1)),
    "SoftHinge": lambda m: 1 - math.tanh(m) ** 2,
    "LeCunTanh": lambda m: (1 - math.tanh(2 * m / 3) ** 2) * (2 / 3) * 1.7519,
    "Ramp": lambda m: 1.0 if abs(m) <= 1 else max(0.0, 2 - abs(m)),
}

MEMBERS = set(REFERENCE_LOSS) | set(REFERENCE_SLOPE)
CLEAR_NAMES = {
    "STE": "ste",
    "SSTE": "saturated_ste",
    "SSTEv2": "saturated_ste",
    "WtHinge": "hinge",
    "TruncWtHinge": "truncated_hinge",
    "TruncWtHinge2": "truncated_hinge",
    "TruncWtHinge11": "truncated_hinge",
    "WeightedPerceptron": "perceptron",
    "TruncWtPerceptron": "truncated_perceptron",
    "LogWtHinge": "log_hinge",
    "TruncLogWtHinge": "truncated_log_hinge",
    "TruncWtL2Hinge": "truncated_squared_hinge",
    "SquareLoss": "square",
    "TruncSquareLoss": "truncated_square",
    "Adaline": "adaline",
    "LogLoss": "logistic",
    "TruncLogLoss": "truncated_logistic",
    "LogSigmoid": "log_sigmoid",
    "Sigmoid": "sigmoid",
    "Sigmoid2_2": "sigmoid",
    "Sigmoid3_2": "sigmoid",
    "SoftHinge": "soft_hinge",
    "SoftHinge2": "soft_hinge",
    "LeCunTanh": "lecun_tanh",
    "Ramp": "ramp",
}
OURS = {"squared_hinge", "approx_sign", "swish_sign", "ede", "reste"}

GRID = [k / 64 for k in range(-320, 321)]


@pytest.mark.parametrize("alias", sorted(REFERENCE_LOSS))
def test_loss_is_the_reference_formula(alias):
    expected = torch.tensor([REFERENCE_LOSS[alias](m) for m in GRID], dtype=torch.float64)
    loss = get_rule(alias).loss(torch.tensor(GRID, dtype=torch.float64))
    torch.testing.assert_close(loss, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("alias", sorted(REFERENCE_SLOPE))
def test_slope_is_the_reference_formula(alias):
    expected = torch.tensor([REFERENCE_SLOPE[alias](m) for m in GRID], dtype=torch.float64)
    slope = get_rule(alias).slope(torch.tensor(GRID, dtype=torch.float64))
    torch.testing.assert_close(slope, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("alias", sorted(MEMBERS))
def test_every_reference_name_finds_its_rule(alias):
    assert get_rule(alias).name == CLEAR_NAMES[alias]


def test_the_reference_has_25_rules_and_we_have_them_all():
    assert len(MEMBERS) == 25
    assert set(CLEAR_NAMES.values()) | OURS <= set(RULES)


def test_squared_hinge_is_half_the_square_of_the_hinge():
    expected = torch.tensor([hinge(m) ** 2 / 2 for m in GRID], dtype=torch.float64)
    loss = get_rule("squared_hinge").loss(torch.tensor(GRID, dtype=torch.float64))
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)


def test_approx_sign_is_the_triangle_of_height_two():
    expected = torch.tensor([max(0.0, 2 - 2 * abs(m)) for m in GRID], dtype=torch.float64)
    slope = get_rule("approx_sign").slope(torch.tensor(GRID, dtype=torch.float64))
    assert torch.equal(slope, expected)
