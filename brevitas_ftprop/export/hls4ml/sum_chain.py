"""Which integer sum reaches which level, found by evaluating PyTorch's arithmetic at the sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from onnx import NodeProto
from torch import Tensor

from ..errors import ExportError
from .elementwise import Levels, apply_chain
from .folding import folded


@dataclass(frozen=True)
class SumChain:
    """What follows the integer sums of a layer.

    Attributes:
        name: of the layer, for messages.
        nodes: elementwise nodes with their constant inputs (None where the data comes in).
        scale: float32 array (C,), PyTorch's sum behind the integer one.
        rank: number of dimensions of the sums.
        bias: of the layer itself, float32 array (C,), or None.
    """

    name: str
    nodes: Sequence[tuple[NodeProto, Sequence[np.ndarray | None]]]
    scale: np.ndarray
    rank: int
    bias: np.ndarray | None = None

    def values(self, sums: np.ndarray, *, exact: bool = False) -> Tensor:
        """What the chain makes of integer sums (M, C), float32 (M, C); in float64 if exact."""
        # In float64 the product is exact, so that it is rounded once, as PyTorch rounds a sum.
        total = sums * self.scale.astype(np.float64)
        if self.bias is not None:
            total = total + self.bias
        x = torch.from_numpy(total if exact else total.astype(np.float32))
        shaped = x.reshape(*x.shape, *(1,) * (self.rank - 2))
        return apply_chain(self.nodes, shaped).reshape(x.shape)

    def thresholds(
        self, levels: Levels, low: int, high: int, *, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Direction of each channel, and the smallest directed sum that reaches each level.

        Args:
            levels: of the quantizer that ends the chain.
            low: smallest sum.
            high: largest sum.
            exact: in arithmetic that does not round as PyTorch's does.

        Returns:
            Arrays (C,) of 1 and −1, int64, and (C, count), float64; a threshold is −inf for a level
            that is always reached, and inf for one that never is.

        Raises:
            ExportError: if the chain gives values that are not levels.
        """
        channels, count = len(self.scale), levels.count

        def level(sums: np.ndarray) -> np.ndarray:
            found = levels.index(self.values(sums, exact=exact))
            if found.min() < 0 or found.max() > count:
                raise ExportError(f"{self.name} gives values outside its quantizer's range")
            return found

        ends = np.broadcast_to(np.array([[low], [high]]), (2, channels))
        at_low, at_high = level(ends)
        direction = np.where(at_high < at_low, -1, 1)
        lowest = np.where(direction > 0, low, -high)
        highest = np.where(direction > 0, high, -low)
        wanted = np.arange(1, count + 1)[:, None]
        # Below `missed` no level k is reached, from `reached` on it is.
        missed = np.broadcast_to(lowest - 1, (count, channels)).copy()
        reached = np.broadcast_to(highest + 1, (count, channels)).copy()
        while (reached - missed > 1).any():
            middle = (missed + reached) // 2
            inside = np.clip(middle, lowest, highest)
            is_reached = (level(direction * inside) >= wanted) & (middle >= lowest)
            reached = np.where(is_reached, middle, reached)
            missed = np.where(is_reached, missed, middle)
        found = np.where(reached > highest, np.inf, np.where(reached == lowest, -np.inf, reached))
        return direction, found.T

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Factor and offset of each channel, float64 arrays (C,), of a chain that only scales.

        Raises:
            ExportError: if the chain does anything else.
        """
        factor = self.scale.astype(np.float64)
        offset = np.zeros_like(factor) if self.bias is None else self.bias.astype(np.float64)
        for node, constants in self.nodes:
            factor, offset = folded(node, constants, factor, offset, name=self.name)
        return factor, offset
