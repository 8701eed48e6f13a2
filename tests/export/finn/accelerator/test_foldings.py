"""A residual block runs in any folding once its FIFOs are sized, whenever images come and go."""

from __future__ import annotations

import numpy as np
import pytest

from .conftest import residual


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_random_folding_runs_with_its_sized_fifos(size, simulate, random_values, seed):
    rng = np.random.default_rng(seed)
    either = [int(each) for each in rng.integers(1, 3, 6)]
    simd = int(rng.choice([1, 2, 3, 6, 9, 18]))
    model = residual(rng, simd=simd, folded=either).build()
    images = random_values("INT4", (3, 5, 5, 2), rng)
    sizing = size(model, images)
    assert sizing.ok, str(sizing)
    free = simulate(model, images, fifo_depths=dict.fromkeys(sizing.depths, 1000))
    assert sizing.report.steady == free.steady
    paused = simulate(model, images, fifo_depths=sizing.depths, frames=6, pauses=True)
    assert paused.ok, str(paused)
