"""Small recipes, and a run that shows nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def tiny() -> Any:
    """Three steps an epoch on a network with one of everything that Brevitas counts."""
    # Here, since the modules of tests skip where the extra 'examples' is not installed.
    from training import Data, Optimizer, Recipe

    return Recipe(
        model="tiny_networks:stateful",
        data=Data(
            name="digits", image_size=8, train_images=96, validation_images=40, test_images=50
        ),
        batch_size=32,
        epochs=2,
        optimizer=Optimizer(lr=3e-3),
    )


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    """Train a recipe in a folder of its own, or in the one that is named."""
    from training import Run, train

    quiet = Run(accelerator="cpu", progress=False, log=False)

    def run(recipe: Any, out: str | Path = "run", **options: Any) -> Any:
        callbacks = options.pop("callbacks", ())
        return train(recipe, tmp_path / out, replace(quiet, **options), callbacks=callbacks)

    return run
