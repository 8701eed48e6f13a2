"""Networks by name: ours, Brevitas' own, torchvision's, and those of a user's factory."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import Conv2d, Linear, Module

from .factory import build_model, find_factory
from .finn_factory import PREFIX

OURS = {
    "alexnet": "QuantAlexNet",
    "convnet4": "ConvNet4",
    "convnet8": "ConvNet8",
    "resnet18": "QuantResNet18",
}
# Of any size; the others are built for one.
SIZELESS = "resnet18"
# The slash is how recipes once had it.
OTHERS = re.compile(r"(brevitas|torchvision)[:/](\w+)")
ACT_BITS = {f"int{bits}": bits for bits in range(2, 9)}


def build_named(
    reference: str,
    options: Mapping[str, Any],
    *,
    shape: Sequence[int],
    classes: int | None = None,
    seed: int = 0,
    options_by: str,
) -> Module:
    """Build a network.

    Args:
        reference: ``convnet4``, ``convnet8``, ``alexnet`` or ``resnet18`` (of
            ``brevitas_ftprop.models``), ``brevitas:<name>`` (of ``brevitas_examples.bnn_pynq``),
            ``torchvision:<name>`` (quantized by ``brevitas.graph.quantize``),
            ``package.module:factory``, or ``finn:package.module:factory`` for a float network,
            quantized for FINN.
        options: its own; of ours and torchvision's also ``act`` and ``weight_bits``.
        shape: of the images, (N, C, H, W), for networks that are built for one.
        classes: number of logits, for ours and torchvision's; their own if None.
        seed: torch's, which fixes the first weights.
        options_by: where the user has given the options.

    Raises:
        ImportError: if a module needs a package that is not installed.
        TypeError, ValueError: for what names no network, and options that it refuses.

    >>> type(build_named("convnet4", {"act": "sign"}, shape=(1, 3, 8, 8), options_by="")).__name__
    'ConvNet4'
    """
    if reference in OURS:
        return _ours(reference, options, shape, classes, seed)
    match = OTHERS.fullmatch(reference)
    if match is not None:
        build = {"brevitas": _brevitas, "torchvision": _torchvision}[match[1]]
        return build(match[2], reference, dict(options), classes, seed)
    if ":" not in reference and Path(reference).is_dir():
        raise ValueError(f"{reference} is a folder: pass a training's as --run {reference}")
    if ":" not in reference:
        raise ValueError(
            f"unknown model {reference!r}; valid are {', '.join(OURS)}, "
            f"{', '.join(f'brevitas:{name}' for name in _of_brevitas())}, torchvision:<name>, "
            f"package.module:factory and {PREFIX}package.module:factory"
        )
    found = find_factory(reference)
    if isinstance(found, Module):
        if options:
            raise ValueError(f"{reference} is a model already and takes no {options_by}")
        return found
    if reference.startswith(PREFIX):
        options = {"input_shape": (1, *shape[1:]), **options}
    torch.manual_seed(seed)
    return build_model(found, options, reference=reference, options_by=options_by)


def _ours(
    reference: str,
    options: Mapping[str, Any],
    shape: Sequence[int],
    classes: int | None,
    seed: int,
) -> Module:
    from .. import models

    own: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if reference != SIZELESS and "image_size" not in options:
        if len(shape) != 4 or shape[2] != shape[3]:
            raise ValueError(
                f"{reference} takes square images (N, 3, H, H), none of shape {tuple(shape)}"
            )
        own["image_size"] = shape[-1]
    return _called(getattr(models, OURS[reference]), own | dict(options), reference, seed)


def _of_brevitas() -> list[str]:
    from brevitas_examples.bnn_pynq import models

    return sorted(set(models.__all__) - {"model_with_cfg"})


def _brevitas(
    name: str, reference: str, options: dict[str, Any], classes: int | None, seed: int
) -> Module:
    if name not in _of_brevitas():
        raise ValueError(
            f"unknown model {reference!r}; of Brevitas there are {', '.join(_of_brevitas())}"
        )
    for option in options:
        raise ValueError(f"{reference} takes no {option}: its own are fixed")
    from brevitas_examples.bnn_pynq.models import model_with_cfg

    torch.manual_seed(seed)
    return model_with_cfg(name, False)[0]


def _torchvision(
    name: str, reference: str, options: dict[str, Any], classes: int | None, seed: int
) -> Module:
    import torchvision

    try:
        factory = torchvision.models.get_model_builder(name)
    except ValueError:
        raise ValueError(
            f"unknown model {reference!r}; see torchvision.models.list_models()"
        ) from None
    act, weight_bits = (options.pop(option, None) for option in ("act", "weight_bits"))
    own = {"weights": None} if classes is None else {"weights": None, "num_classes": classes}
    network = _called(factory, own | options, reference, seed)
    return _quantized(network, reference, act, weight_bits)


def _quantized(network: Module, reference: str, act: str | None, weight_bits: int | None) -> Module:
    """A network of torchvision's as Brevitas quantizes it."""
    from brevitas.graph import quantize as stock

    layers, activations = dict(stock.COMPUTE_LAYER_MAP), dict(stock.QUANT_ACT_MAP)
    identities = dict(stock.QUANT_IDENTITY_MAP)
    if weight_bits is not None:
        for layer in (Conv2d, Linear):
            quantized, arguments = layers[layer]
            layers[layer] = quantized, arguments | {"weight_bit_width": weight_bits}
    if act is not None:
        if act not in ACT_BITS:
            valid = ", ".join(ACT_BITS)
            raise ValueError(f"act of {reference} must be one of {valid}, not {act!r}")
        bits = {"bit_width": ACT_BITS[act]}
        # What a residual adds has to have one scale, and so one bit width.
        for quantizers in (activations, identities):
            for kind, entry in quantizers.items():
                if entry is not None:
                    quantizers[kind] = entry[0], entry[1] | bits
    # Batch norms merged into untrained convolutions would be gone from training.
    traced = stock.preprocess_for_quantize(network, merge_bn=False)
    network = stock.quantize(
        traced,
        quant_identity_map=identities,
        compute_layer_map=layers,
        quant_act_map=activations,
    )
    # Images keep their 8 bits.
    quantized, arguments = stock.QUANT_IDENTITY_MAP["signed"]
    image = next(node.name for node in network.graph.nodes if node.op == "placeholder")
    network.add_module(f"{image}_quant", quantized(**arguments))
    return network


def _called(
    factory: Callable[..., Module], options: Mapping[str, Any], reference: str, seed: int
) -> Module:
    torch.manual_seed(seed)
    try:
        return factory(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{reference} does not take its options: {error}") from error
