"""Biases among integers keep every class that the sums can give, and PyTorch's own."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from brevitas_ftprop.export.errors import ExportError
from brevitas_ftprop.export.fixed_point_bias import fixed_point_bias

TERMS, LARGEST = 6, 7
biases = st.lists(st.floats(-4, 4, width=32), min_size=2, max_size=5)


@given(
    bias=biases,
    scale=st.sampled_from([1.0, 0.125, 0.1, 0.037]),
    seed=st.integers(0, 999),
)
@settings(max_examples=200, deadline=None)
def test_the_class_is_that_of_exact_and_of_pytorchs_arithmetic(bias, scale, seed):
    rng = np.random.default_rng(seed)
    classes = len(bias)
    weights = rng.integers(-LARGEST, LARGEST + 1, (classes, TERMS))
    reach = LARGEST * np.abs(weights).sum(1)
    values, step = np.array(bias, np.float32), float(np.float32(scale))
    try:
        integers, bits = fixed_point_bias(values, step, reach, TERMS, is_class=True)
    except ExportError:
        return
    x = rng.integers(0, LARGEST + 1, (300, TERMS))
    sums = x @ weights.T
    found = 2**bits * sums + integers
    assert np.abs(found).max() < 2**24
    layer = torch.nn.Linear(TERMS, classes)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights) * step)
        layer.bias.copy_(torch.from_numpy(values))
        logits = layer(torch.from_numpy(x).float()).numpy()
    for row, ours, theirs in zip(sums, found, logits, strict=True):
        exact = [
            Fraction(step) * int(m) + Fraction(float(b)) for m, b in zip(row, values, strict=True)
        ]
        ranks = sorted(range(classes), key=exact.__getitem__)
        gaps = [exact[b] - exact[a] for a, b in pairwise(ranks)]
        # Equal logits are no more than PyTorch's rounding apart, and either may be the class.
        if min(gaps, default=1) > 1e-5:
            assert ours.argmax() == theirs.argmax() == ranks[-1]
        elif step in (1.0, 0.125):
            assert theirs[ours.argmax()] == theirs.max()


@given(numbers=st.lists(st.integers(-(2**20), 2**20), min_size=2, max_size=6))
@settings(max_examples=50, deadline=None)
def test_a_bias_of_integers_is_those_integers(numbers):
    scale = np.float32(0.037)
    bias = np.array(numbers, np.float32) * scale
    reach = np.full(len(numbers), 100)
    for is_class in (True, False):
        integers, bits = fixed_point_bias(bias, float(scale), reach, 9, is_class=is_class)
        assert (integers.tolist(), bits) == (numbers, 0)


@given(
    numbers=st.lists(st.integers(-(2**12), 2**12), min_size=2, max_size=6),
    bits=st.integers(1, 6),
)
@settings(max_examples=50, deadline=None)
def test_a_bias_of_a_finer_scale_is_its_integers(numbers, bits):
    numbers[0] = 2 * numbers[0] + 1
    scale = np.float32(0.037)
    bias = np.array(numbers, np.float32) * (scale / np.float32(2**bits))
    reach = np.full(len(numbers), 30_000)
    integers, found = fixed_point_bias(bias, float(scale), reach, 9, is_class=True)
    assert (integers.tolist(), found) == (numbers, bits)
    with pytest.raises(ExportError, match="no multiple of the scale"):
        fixed_point_bias(bias, float(scale), reach, 9, is_class=False)


@pytest.mark.parametrize(
    ("bias", "scale", "is_class", "reason"),
    [
        ((0.5, 0.25), 1.0, False, "no multiple of the scale"),
        ((0.0, 1e-7), 0.1, True, "classes 0 and 1 as near to each other as they are rounded"),
        ((0.0, 1e-5), 1.0, True, "more than 24 bits"),
    ],
)
def test_what_cannot_be_exact_is_refused_by_name(bias, scale, is_class, reason):
    bias, reach = np.array((*bias, 5.5)), np.array([30, 30, 2**20])
    with pytest.raises(ExportError, match=reason):
        fixed_point_bias(bias, scale, reach, 4, is_class=is_class)
