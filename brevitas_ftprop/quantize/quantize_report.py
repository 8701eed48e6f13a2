"""What was inserted where, and what each insertion changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn


@dataclass(frozen=True)
class Insertion:
    """One quantizer that a float network was given.

    Attributes:
        name: of the module that has it.
        what: the quantized module, in words.
        why: what it is for.
        change: ‖y′ − y‖/‖y‖ of the network's output y, y′ that with this quantizer alone.
    """

    name: str
    what: str
    why: str
    change: float


@dataclass(frozen=True)
class QuantizeReport:
    """The quantizers of a network in the order of the graph; a sequence of them.

    Attributes:
        insertions: one for each quantizer.
        change: ‖y′ − y‖/‖y‖ of the output with all of them.
        warnings: what ``check_deployable`` finds worth a look.

    >>> report = QuantizeReport((Insertion("fc", "QuantLinear, 8 bits", "weights", 0.01),), 0.01)
    >>> print(report)
    1 quantizers, which change the output by 0.01 (relative, float weights as they were)
      fc  0.01    QuantLinear, 8 bits: weights
    """

    insertions: tuple[Insertion, ...]
    change: float
    warnings: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Insertion]:
        return iter(self.insertions)

    def __len__(self) -> int:
        return len(self.insertions)

    def __getitem__(self, index: int) -> Insertion:
        return self.insertions[index]

    def as_dict(self) -> dict[str, Any]:
        """Plain lists, strings and numbers, fit for JSON."""
        return {**asdict(self), "insertions": [asdict(insertion) for insertion in self]}

    def __str__(self) -> str:
        width = max((len(insertion.name) for insertion in self), default=0)
        lines = [
            f"{len(self)} quantizers, which change the output by {self.change:.2g} "
            "(relative, float weights as they were)"
        ]
        lines += [
            f"  {each.name:<{width}}  {each.change:<7.2g} {each.what}: {each.why}" for each in self
        ]
        return "\n".join([*lines, *self.warnings])


class _Mixed(fx.Interpreter):
    """Runs a quantized graph with its float modules in place of some."""

    def __init__(self, graph_model: fx.GraphModule, floats: Mapping[str, nn.Module]) -> None:
        super().__init__(graph_model)
        self.floats = floats

    def call_module(self, target: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        if target in self.floats:
            return self.floats[target](*args, **kwargs)
        return super().call_module(target, args, kwargs)


def changes(
    quantized: fx.GraphModule, floats: Mapping[str, nn.Module], example: Tensor
) -> tuple[list[float], float]:
    """How each quantized module changes the output by itself, and how all of them do.

    Args:
        quantized: graph in evaluation mode.
        floats: float modules by the names of those that are quantized.
        example: float32 (N, …).
    """

    def output(replaced: Mapping[str, nn.Module]) -> Tensor:
        with torch.no_grad():
            return _Mixed(quantized, replaced).run(example)

    reference = output(floats)
    size = float(reference.norm()) or 1.0

    def change(replaced: Mapping[str, nn.Module]) -> float:
        return float((output(replaced) - reference).norm()) / size

    alone = [
        change({other: module for other, module in floats.items() if other != name})
        for name in floats
    ]
    return alone, change({})
