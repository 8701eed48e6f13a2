"""What a single flip changes: a small window of a value, for many flips at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Layout:
    """A value as a table: a row for each place and block of neighbouring channels.

    Attributes:
        actual: shape of the value.
        shape: the shape (N, C, ...) that it is seen in, of the same numbers in the same order.
        blocks: number of blocks that the channels fall into.

    >>> layout = Layout((1, 4, 2), (1, 4, 2), blocks=2)
    >>> layout.table(torch.arange(8).view(1, 4, 2), 0)
    tensor([[0, 2],
            [4, 6],
            [1, 3],
            [5, 7],
            [0, 0]])
    """

    actual: tuple[int, ...]
    shape: tuple[int, ...]
    blocks: int

    @property
    def width(self) -> int:
        """Channels of a block."""
        return self.shape[1] // self.blocks

    @property
    def places(self) -> tuple[int, ...]:
        """Sizes of the dimensions behind the channels."""
        return self.shape[2:]

    def table(self, tensor: Tensor, outside: float) -> Tensor:
        """A tensor's numbers by :meth:`index`; the last row is that of places outside.

        Args:
            tensor: broadcasts to the value.
            outside: what stands in the last row.
        """
        full = tensor.expand(self.actual).reshape(self.shape).movedim(1, -1)
        return functional.pad(full.reshape(-1, self.width), (0, 0, 0, 1), value=outside)

    def index(
        self, rows: Tensor, block: Tensor, origin: Sequence[Tensor], window: Sequence[int]
    ) -> Tensor:
        """Rows of the table of a window at an origin of its own for each flip, (F, places)."""
        at, inside = rows[:, None], None
        for start, length, size in zip(origin, window, self.places, strict=True):
            place = start[:, None] + torch.arange(length, device=rows.device)
            at = (at[:, :, None] * size + place[:, None]).flatten(1)
            within = (place >= 0) & (place < size)
            inside = within if inside is None else (inside[:, :, None] & within[:, None]).flatten(1)
        at = at * self.blocks + block[:, None]
        last = self.shape[0] * math.prod(self.places) * self.blocks
        return at if inside is None else torch.where(inside, at, last)

    def depends_on_channels_alone(self, tensor: Tensor) -> bool:
        """Whether a tensor that broadcasts to the value has one number for each channel."""
        at = len(self.places) + 1
        return (
            self.blocks == 1
            and tensor.dim() >= at
            and tensor.shape[-at] == self.shape[1] == tensor.numel()
            and self.actual == self.shape
        )


@dataclass(frozen=True, eq=False)
class Patch:
    """How much flips change a value, each in its window.

    Attributes:
        layout: of the value.
        rows: of the batch, shape (F,).
        block: of the channels, shape (F,).
        origin: first place of the window in each dimension, each of shape (F,).
        window: its lengths.
        unscaled: shape (F, places of the window, channels of a block); 0 outside the value.
        factor: what that is multiplied by, broadcasting to it; None for 1.
    """

    layout: Layout
    rows: Tensor
    block: Tensor
    origin: tuple[Tensor, ...]
    window: tuple[int, ...]
    unscaled: Tensor
    factor: Tensor | None = None

    @cached_property
    def change(self) -> Tensor:
        """The change of each number."""
        return self.unscaled if self.factor is None else self.unscaled * self.factor

    def added_to(self, before: Tensor) -> Tensor:
        """What flips make of the numbers that stand there, which may be overwritten."""
        if self.factor is None or before.dim() < 3:
            return before + self.change
        return before.addcmul_(self.unscaled, self.factor)

    def times(self, factor: Tensor) -> Patch:
        """The patch with its changes multiplied."""
        if factor.shape[:1] == self.unscaled.shape[:1] and len(self.rows) > 1:
            return replace(self, unscaled=self.change * factor, factor=None)
        return replace(self, factor=factor if self.factor is None else self.factor * factor)

    @cached_property
    def index(self) -> Tensor:
        """Rows of the layout's table, shape (F, places)."""
        return self.layout.index(self.rows, self.block, self.origin, self.window)

    @property
    def outside(self) -> Tensor:
        """Which of the places are none of the value, shape (F, places)."""
        return self.index == self.layout.shape[0] * math.prod(self.layout.places) * (
            self.layout.blocks
        )

    def place(self) -> Tensor:
        """Number of each place within a row of the batch where a block is one channel, (F, places).

        Places outside have that of the first.
        """
        _, channels, *places = self.layout.shape
        within = self.index % (channels * math.prod(places))
        flat = within % channels * math.prod(places) + within // channels
        return torch.where(self.outside, 0, flat)


class Tables:
    """Tables of the tensors between, made once for all flips, and how much a flip takes.

    Args:
        dtype: that is computed in.
    """

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype
        self.largest = 0
        self._made: dict[tuple, Any] = {}

    def made(self, key: tuple, make: Callable[[], Any]) -> Any:
        """What ``make`` gave for this key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def look(
        self,
        key: tuple,
        patch: Patch,
        make: Callable[[], Tensor],
        *,
        outside: float = 0.0,
        index: Tensor | None = None,
    ) -> Tensor:
        """What belongs to a patch of a tensor, in a shape that broadcasts to its changes.

        Args:
            key: of the tensor.
            patch: the patch.
            make: gives the tensor, which broadcasts to the value.
            outside: what stands for places that are none of the value.
            index: of other places than those of the patch.
        """
        layout, tensor = patch.layout, self.made(key, make)
        if tensor.numel() == 1:
            return tensor.reshape(())
        if layout.depends_on_channels_alone(tensor):
            return tensor.reshape(1, 1, -1)
        places = patch.index if index is None else index
        table = self.made((*key, layout), lambda: layout.table(tensor.to(self.dtype), outside))
        taken = table.index_select(0, places.flatten())
        return taken.view(*places.shape, layout.width)

    def takes(self, *tensors: Tensor, copies: int = 1) -> None:
        """Note that the temporaries of an operator are of the sizes of these, so many times."""
        of_one = sum(each[0].numel() * each.element_size() for each in tensors) * copies
        self.largest = max(self.largest, of_one)
