"""The network of a recipe: built, initialized by its seed, and converted to its rules."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from brevitas_ftprop.runs.factory import find_factory
from brevitas_ftprop.runs.named_models import OTHERS, build_named
from brevitas_ftprop.runs.rule_choice import follow_rules

from .failures import TrainingError
from .recipe import Recipe


def build_network(recipe: Recipe, classes: int) -> tuple[nn.Module, int]:
    """Build a recipe's network for so many classes.

    The seed alone fixes the weights: conversion draws nothing.

    Returns:
        The network and how many of its quantizers follow the recipe's rules.

    Raises:
        TrainingError: for an unknown model, options that it or the conversion refuses, and logits
            that are not as many as the classes.
    """
    network = _built(recipe, classes)
    if recipe.clip_weights and not hasattr(network, "clip_weights"):
        raise TrainingError(f"clip_weights is set, but {recipe.model} has no such method")
    try:
        converted = follow_rules(
            network,
            recipe.model,
            rule=recipe.rule,
            weight_rule=recipe.weight_rule,
            weighting=recipe.weighting,
            staircase=recipe.staircase,
            saved=recipe.saved,
        )
    except (TypeError, ValueError) as error:
        raise TrainingError(f"{recipe.model} with rule {recipe.rule}: {error}") from error
    _check_classes(network, recipe, classes)
    return network, converted


def _built(recipe: Recipe, classes: int) -> nn.Module:
    if ":" in recipe.model and not OTHERS.fullmatch(recipe.model):
        try:
            if isinstance(find_factory(recipe.model), nn.Module):
                raise TypeError("it is a model already, and each run needs a new one")
        except (ImportError, TypeError, ValueError) as error:
            raise TrainingError(f"there is no model {recipe.model}: {error}") from error
    chosen = {"act": recipe.act, "weight_bits": recipe.weight_bits}
    given = {name: value for name, value in chosen.items() if value is not None}
    try:
        return build_named(
            recipe.model,
            given | recipe.model_options,
            shape=(1, recipe.data.channels, *recipe.data.size),
            classes=classes,
            seed=recipe.seed,
            options_by="model_options",
        )
    except (ImportError, TypeError, ValueError) as error:
        raise TrainingError(str(error)) from error


def _check_classes(network: nn.Module, recipe: Recipe, classes: int) -> None:
    # A copy, since some quantizers start their scales at the first pass.
    copy, data = deepcopy(network).eval(), recipe.data
    images = torch.zeros(2, data.channels, *data.size)
    try:
        with torch.no_grad():
            logits = copy(images)
    except (RuntimeError, AssertionError) as error:
        raise TrainingError(
            f"{recipe.model} does not take images of {tuple(images.shape[1:])}: {error}"
        ) from error
    if not isinstance(getattr(logits, "value", logits), Tensor):
        raise TrainingError(
            f"{recipe.model} returns a {type(logits).__name__}: return one plain tensor, the logits"
        )
    if logits.shape != (2, classes):
        raise TrainingError(
            f"{recipe.model} gives {tuple(logits.shape[1:])} logits an image, "
            f"but the images have {classes} classes"
        )
