"""``finn:package.module:factory``: a float network that is quantized for FINN as it is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from torch.nn import Module

from .images import random_images

PREFIX = "finn:"
# Random ones, for the ranges of quantizers that no checkpoint gives.
IMAGES = 8


def quantizing(build: Callable[..., Module]) -> Callable[..., Module]:
    """A factory of quantized networks from one of float ones.

    It takes the options of ``quantize_for_finn`` and ``input_shape``, and hands all others on. Its
    networks are not checked, and their scales are those for random images, until a checkpoint gives
    others.
    """

    def quantized(*, input_shape: Sequence[int] = (1, 3, 224, 224), **options: Any) -> Module:
        from ..quantize.choices import Choices
        from ..quantize.for_finn import quantized_graph

        names = {field.name for field in fields(Choices)}
        choices = Choices(**{name: options.pop(name) for name in names & options.keys()})
        model = build(**options)
        images = random_images(input_shape, count=IMAGES)
        return quantized_graph(model, images, choices)[0].train(model.training)

    return quantized
