"""Small recipes, and a run that shows nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("jsonargparse", reason="needs the extra 'examples'")
pytest.importorskip("lightning", reason="needs the extra 'examples'")

from training import Data, Optimizer, Recipe, Result, Run, train

QUIET = Run(accelerator="cpu", progress=False, log=False)
DIGITS = Data(name="digits", image_size=8, train_images=96, validation_images=40, test_images=50)


@pytest.fixture
def tiny() -> Recipe:
    """Three steps an epoch on a network with one of everything that Brevitas counts."""
    return Recipe(
        model="tiny_networks:stateful",
        data=DIGITS,
        batch_size=32,
        epochs=2,
        optimizer=Optimizer(lr=3e-3),
    )


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    """Train a recipe in a folder of its own, or in the one that is named."""

    def run(recipe: Recipe, out: str | Path = "run", **options) -> Result:
        callbacks = options.pop("callbacks", ())
        return train(recipe, tmp_path / out, replace(QUIET, **options), callbacks=callbacks)

    return run
