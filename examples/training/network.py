"""The network of a recipe: built, initialized by its seed, and converted to its rules."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
import torchvision
from brevitas.graph.quantize import (
    COMPUTE_LAYER_MAP,
    QUANT_ACT_MAP,
    QUANT_IDENTITY_MAP,
    preprocess_for_quantize,
    quantize,
)
from brevitas_examples.bnn_pynq import models as bnn_pynq
from torch import Tensor, nn

from brevitas_ftprop import restore_quantizers, swap_quantizers
from brevitas_ftprop.cli.factory import build_model, find_factory
from brevitas_ftprop.cli.finn_factory import PREFIX
from brevitas_ftprop.models import ConvNet4, ConvNet8, QuantAlexNet, QuantResNet18

from .failures import TrainingError
from .recipe import STOCK, Recipe

OURS = {
    "alexnet": QuantAlexNet,
    "convnet4": ConvNet4,
    "convnet8": ConvNet8,
    "resnet18": QuantResNet18,
}
SIZED = (QuantAlexNet, ConvNet4, ConvNet8)
BREVITAS = sorted(set(bnn_pynq.__all__) - {"model_with_cfg"})
ACT_BITS = {f"int{bits}": bits for bits in range(2, 9)}


def build_network(recipe: Recipe, classes: int) -> tuple[nn.Module, int]:
    """Build a recipe's network for so many classes.

    The seed alone fixes the weights: conversion draws nothing.

    Returns:
        The network and how many of its quantizers follow the recipe's rules.

    Raises:
        TrainingError: for an unknown model, options that it or the conversion refuses, and logits
            that are not as many as the classes.
    """
    torch.manual_seed(recipe.seed)
    kind, slash, name = recipe.model.partition("/")
    if recipe.model in OURS:
        network = _ours(recipe, classes)
    elif slash and kind == "brevitas":
        network = _brevitas(recipe, name)
    elif slash and kind == "torchvision":
        network = _torchvision(recipe, name, classes)
    elif ":" in recipe.model:
        network = _factory(recipe)
    else:
        raise TrainingError(
            f"unknown model {recipe.model!r}; valid are {', '.join(OURS)}, "
            f"{', '.join(f'brevitas/{name}' for name in BREVITAS)}, torchvision/<name>, "
            "package.module:factory and finn:package.module:factory"
        )
    if recipe.clip_weights and not hasattr(network, "clip_weights"):
        raise TrainingError(f"clip_weights is set, but {recipe.model} has no such method")
    try:
        converted = _convert(network, recipe)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"{recipe.model} with rule {recipe.rule}: {error}") from error
    _check_classes(network, recipe, classes)
    return network, converted


def _ours(recipe: Recipe, classes: int) -> nn.Module:
    model = OURS[recipe.model]
    options = {"num_classes": classes, "act": recipe.act, "weight_bits": recipe.weight_bits}
    if model in SIZED:
        options["input_size"] = recipe.data.image_size
    given = {name: value for name, value in options.items() if value is not None}
    return _called(model, given | recipe.model_options, recipe)


def _brevitas(recipe: Recipe, name: str) -> nn.Module:
    if name not in BREVITAS:
        raise TrainingError(
            f"unknown model {recipe.model!r}; of Brevitas there are {', '.join(BREVITAS)}"
        )
    _refuse_options(recipe, "model_options", "act", "weight_bits")
    network, _ = bnn_pynq.model_with_cfg(name, False)
    return network


def _torchvision(recipe: Recipe, name: str, classes: int) -> nn.Module:
    try:
        factory = torchvision.models.get_model_builder(name)
    except ValueError:
        raise TrainingError(
            f"unknown model {recipe.model!r}; see torchvision.models.list_models()"
        ) from None
    options = {"weights": None, "num_classes": classes} | recipe.model_options
    network = _called(factory, options, recipe)
    layers, activations = dict(COMPUTE_LAYER_MAP), dict(QUANT_ACT_MAP)
    identities = dict(QUANT_IDENTITY_MAP)
    if recipe.weight_bits is not None:
        for layer in (nn.Conv2d, nn.Linear):
            quantized, arguments = layers[layer]
            layers[layer] = quantized, arguments | {"weight_bit_width": recipe.weight_bits}
    if recipe.act is not None:
        if recipe.act not in ACT_BITS:
            raise TrainingError(
                f"act of {recipe.model} must be one of {', '.join(ACT_BITS)}, not {recipe.act!r}"
            )
        bits = {"bit_width": ACT_BITS[recipe.act]}
        # What a residual adds has to have one scale, and so one bit width.
        for quantizers in (activations, identities):
            for kind, entry in quantizers.items():
                if entry is not None:
                    quantizers[kind] = entry[0], entry[1] | bits
    # Batch norms merged into untrained convolutions would be gone from training.
    traced = preprocess_for_quantize(network, merge_bn=False)
    network = quantize(
        traced,
        quant_identity_map=identities,
        compute_layer_map=layers,
        quant_act_map=activations,
    )
    # Images keep their 8 bits.
    quantized, arguments = QUANT_IDENTITY_MAP["signed"]
    image = next(node.name for node in network.graph.nodes if node.op == "placeholder")
    network.add_module(f"{image}_quant", quantized(**arguments))
    return network


def _factory(recipe: Recipe) -> nn.Module:
    options = dict(recipe.model_options)
    if recipe.model.startswith(PREFIX):
        size = recipe.data.image_size
        chosen = {"act": recipe.act, "weight_bits": recipe.weight_bits}
        options |= {name: value for name, value in chosen.items() if value is not None}
        options["input_shape"] = (1, recipe.data.channels, size, size)
    else:
        _refuse_options(recipe, "act", "weight_bits")
    try:
        factory = find_factory(recipe.model)
        if isinstance(factory, nn.Module):
            raise TypeError("it is a model already, and each run needs a new one")
    except (ImportError, TypeError, ValueError) as error:
        raise TrainingError(f"there is no model {recipe.model}: {error}") from error
    try:
        return build_model(factory, options, reference=recipe.model, options_by="model_options")
    except (ImportError, TypeError, ValueError) as error:
        raise TrainingError(str(error)) from error


def _called(factory: Callable[..., nn.Module], options: dict[str, Any], recipe: Recipe) -> Any:
    try:
        return factory(**options)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"{recipe.model} does not take its options: {error}") from error


def _refuse_options(recipe: Recipe, *names: str) -> None:
    for name in names:
        if getattr(recipe, name):
            raise TrainingError(f"{recipe.model} takes no {name}: its own are fixed")


def _convert(network: nn.Module, recipe: Recipe) -> int:
    if recipe.rule == STOCK:
        if recipe.weight_rule is not None:
            raise TrainingError("weight_rule does not go with rule: stock, which converts nothing")
        restore_quantizers(network)
        return 0
    options = {"staircase": recipe.staircase, "saved": recipe.saved}
    report = swap_quantizers(network, recipe.rule, weighting=recipe.weighting, **options)
    converted = len(report.changed)
    if not converted:
        raise TrainingError(
            f"{recipe.model} has no activation quantizers for rule {recipe.rule}: choose another "
            "act, or rule: stock"
        )
    if recipe.weight_rule is not None:
        report = swap_quantizers(
            network,
            recipe.weight_rule,
            activations=False,
            weights=True,
            **options,
        )
        converted += len(report.changed)
    return converted


def _check_classes(network: nn.Module, recipe: Recipe, classes: int) -> None:
    # A copy, since some quantizers start their scales at the first pass.
    copy, data = deepcopy(network).eval(), recipe.data
    images = torch.zeros(2, data.channels, data.image_size, data.image_size)
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
