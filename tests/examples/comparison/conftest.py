"""Stored runs that were never run: a result is a record, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("lightning", reason="needs the extra 'examples'")
pytest.importorskip("scipy", reason="needs the extra 'examples'")

from training import Epoch, Recipe, Result


def stored(
    rule: str = "saturated_ste",
    seed: int = 0,
    accuracy: float = 0.5,
    *,
    act: str | None = "sign",
    validation: float | None = None,
    **overrides,
) -> Result:
    fields = {"rule": rule, "seed": seed, "act": act, "test": "end", **overrides}
    recipe = Recipe().with_overrides(**fields)
    return Result(
        recipe=recipe.to_dict(),
        curve=[
            Epoch(
                epoch=0,
                lr=recipe.optimizer.lr,
                train_loss=1.0,
                train_accuracy=accuracy,
                seconds=1.0,
                images_per_second=10.0,
            )
        ],
        test_accuracy=accuracy,
        test_top5=None,
        validation_accuracy=validation,
        validation_top5=None,
        seconds=1.0,
        images_per_second=10.0,
        initial_weights=f"{act}{seed}",
        final_weights="",
        images={"train": 10, "validation": 0, "test": 10},
        data_hash="these",
        converted=3,
        device="one",
        devices=1,
        versions={"torch": "2.12"},
    )


@pytest.fixture
def result() -> Callable[..., Result]:
    """Makes a stored run with the accuracy, and the recipe fields, that are asked for."""
    return stored
