"""Compact saving does not change a training: not a bit where codes are exact, else within noise."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("jsonargparse", reason="needs the extra 'examples'")

from scipy.stats import ttest_rel
from training import Data, Optimizer, Recipe

pytestmark = pytest.mark.heavy

SEEDS = range(4)


def recipe(act: str = "sign", **options) -> Recipe:
    return Recipe(
        model="convnet4",
        model_options={"channels": [16, 32], "fc": 128},
        act=act,
        data=Data(name="digits", image_size=8, crop_padding=0, flip=False, train_images=1400),
        batch_size=16,
        epochs=5,
        optimizer=Optimizer(lr=1e-3),
        **options,
    )


@pytest.mark.slow
def test_two_valued_slopes_train_to_the_same_bits(run):
    exact, compact = (
        run(recipe(rule="saturated_ste", saved=saved), saved) for saved in ("exact", "compact")
    )
    assert compact.final_weights == exact.final_weights


@pytest.mark.slow
@pytest.mark.parametrize(("act", "rule"), [("sign", "soft_hinge"), ("int2", "saturated_ste")])
def test_codes_and_halves_train_along_the_same_curve_within_the_noise_of_the_seeds(run, act, rule):
    curves = {
        saved: [
            [
                epoch.test_accuracy
                for epoch in run(
                    recipe(act, rule=rule, saved=saved, seed=seed), f"{saved}-{seed}"
                ).curve
            ]
            for seed in SEEDS
        ]
        for saved in ("exact", "compact")
    }
    exact, compact = (np.array(curves[saved]) for saved in ("exact", "compact"))
    assert (exact != compact).any()
    assert exact[:, -1].mean() > 0.85
    # Paired by seed, at each epoch; a compact form that trains worse would show at some of them.
    for epoch in range(exact.shape[1]):
        assert ttest_rel(compact[:, epoch], exact[:, epoch]).pvalue > 0.01 / exact.shape[1]
    assert abs(compact.mean() - exact.mean()) < 0.02
