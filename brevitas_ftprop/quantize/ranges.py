"""The range that a quantizer starts with: the one with the least squared error on a batch."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

# Of the largest value; half of it is where 2-bit quantizers of normal values end.
FRACTIONS = tuple(step / 20 for step in range(20, 3, -1))
POWERS = range(0, -4, -1)


class _Recorder(fx.Interpreter):
    """Runs a graph and shows what some modules give.

    Batch norms that have seen nothing take the batch's own statistics, as they will in training.
    """

    def __init__(self, graph_model: fx.GraphModule, names: Any, see: Any) -> None:
        super().__init__(graph_model)
        self.names, self.see = names, see

    def call_module(self, target: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        module = self.fetch_attr(target)
        if _is_new(module) and args[0].numel() > args[0].shape[1]:
            weight, bias = module.weight, module.bias
            result = functional.batch_norm(args[0], None, None, weight, bias, True, 0, module.eps)
        else:
            result = super().call_module(target, args, kwargs)
        if target in self.names:
            self.see(target, result)
        return result


def find_ranges(
    graph_model: fx.GraphModule,
    batch: Tensor,
    bits: Mapping[str, tuple[int, bool]],
    *,
    power_of_two: bool,
) -> dict[str, float]:
    """The largest value of each quantizer, r of [0, r] or [-r, r).

    Args:
        graph_model: float graph in evaluation mode, an identity or ReLU where a quantizer will be.
        batch: float32 (N, …).
        bits: of each quantizer, and whether it is signed.
        power_of_two: whether ranges are powers of two.

    Returns:
        Positive numbers by the quantizers' names.

    Raises:
        ValueError: where only zeros, or values that are not finite, reach a quantizer.
    """
    largest: dict[str, float] = defaultdict(float)

    def see_largest(name: str, values: Tensor) -> None:
        largest[name] = max(largest[name], float(values.abs().max()))

    _run(graph_model, batch, bits, see_largest)
    for name, value in largest.items():
        if not 0 < value < math.inf:
            what = "only zeros reach" if value == 0 else "values that are not finite reach"
            raise ValueError(f"{what} {name}: give real images as calibrate")
    candidates = {name: _candidates(value, power_of_two) for name, value in largest.items()}
    errors = {name: [0.0] * len(ranges) for name, ranges in candidates.items()}

    def see_errors(name: str, values: Tensor) -> None:
        for index, limit in enumerate(candidates[name]):
            rounded = rounded_to(values, limit, *bits[name], power_of_two=power_of_two)
            errors[name][index] += float((rounded - values).square().sum())

    _run(graph_model, batch, bits, see_errors)
    return {
        name: ranges[errors[name].index(min(errors[name]))] for name, ranges in candidates.items()
    }


def rounded_to(
    values: Tensor, limit: float, bits: int, is_signed: bool, *, power_of_two: bool
) -> Tensor:
    """The values on the grid of a quantizer.

    Signed scales are r/2^(b-1), unsigned ones r/(2^b - 1), or r/2^b for powers of two.

    >>> rounded_to(torch.tensor([-1.0, 0.4, 9.0]), 3.0, 2, False, power_of_two=False)
    tensor([0., 0., 3.])
    """
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)
    scale = limit / (-low if is_signed else high + power_of_two)
    return (values / scale).round().clamp(low, high) * scale


def _run(graph_model: fx.GraphModule, batch: Tensor, names: Any, see: Any) -> None:
    with torch.no_grad():
        _Recorder(graph_model, names, see).run(batch)


def _is_new(module: Any) -> bool:
    """Whether a batch norm has no statistics of its own; old checkpoints have some, uncounted."""
    if not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) or module.running_var is None:
        return False
    return not module.num_batches_tracked and bool((module.running_var == 1).all())


def _candidates(largest: float, power_of_two: bool) -> list[float]:
    if power_of_two:
        return [2.0 ** (math.ceil(math.log2(largest)) + power) for power in POWERS]
    return [largest * fraction for fraction in FRACTIONS]
