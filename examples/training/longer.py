"""Training a run for more epochs than its recipe had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from brevitas_ftprop import get_rule

from .failures import TrainingError
from .recipe import STOCK, Recipe, differences


def is_longer(path: Path, saved: dict[str, Any], recipe: Recipe) -> bool:
    """Whether a recipe goes on where the one that a file holds ends, or is the same.

    Raises:
        TrainingError: names the fields that differ, or what more epochs would change of those that
            are over.
    """
    fields = differences(saved, recipe.to_dict())
    if not fields:
        return False
    if fields != ["epochs"]:
        raise TrainingError(
            f"{path} is of another recipe, which differs in {', '.join(fields)}: go on with that "
            "one, or train this one in a folder of its own"
        )
    before = saved["epochs"]
    if recipe.epochs < before:
        raise TrainingError(f"{path} is of {before} epochs, which cannot become {recipe.epochs}")
    reason = bound_to_the_end(recipe)
    if reason is not None:
        raise TrainingError(
            f"{path} is of {before} epochs, to which {reason}: a run of {recipe.epochs} would have "
            "been another one from its first steps, so train it in a folder of its own"
        )
    return True


def going_on(saved: dict[str, Any], recipe: Recipe) -> str:
    """What training longer does, in a sentence."""
    schedule = recipe.schedule
    rate = {
        "constant": "the learning rate stays what it is",
        "step": f"the learning rate goes on by {_steps(recipe)}",
    }[schedule.name]
    return (
        f"training longer: from {saved['epochs']} to {recipe.epochs} epochs, as if that had been "
        f"asked for at the start; {rate}"
    )


def _steps(recipe: Recipe) -> str:
    schedule = recipe.schedule
    if schedule.every is not None:
        return f"schedule.every {schedule.every}"
    return f"schedule.milestones {', '.join(map(str, schedule.milestones))}"


def bound_to_the_end(recipe: Recipe) -> str | None:
    """What of a recipe depends on how many epochs there are; None if nothing does."""
    if recipe.schedule.name == "cosine":
        return "schedule cosine has taken the learning rate down"
    for name in ("rule", "weight_rule"):
        spec = getattr(recipe, name)
        if spec not in (None, STOCK) and get_rule(spec).at(0.5).spec != spec:
            return f"{name} {spec} has changed its slope"
    return None
