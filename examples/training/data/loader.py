"""Iterables over batches, which know where in an epoch they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from torch import Tensor

from .order import EpochOrder

Batch = tuple[Tensor, Tensor]
Fetch = Callable[[int, np.ndarray | list[np.ndarray]], Iterable[Batch]]


class TrainingLoader:
    """An epoch's batches in their order; resumable in its midst.

    Args:
        order: which images are in which batch.
        fetch: turns an epoch and the indices of its batches into batches.
    """

    def __init__(self, order: EpochOrder, fetch: Fetch) -> None:
        # Lightning tells an attribute of this name the epoch.
        self.sampler = order
        self.fetch = fetch
        self.start = self.seen = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        self.seen, self.start = self.start, 0
        for batch in self.fetch(self.sampler.epoch, self.sampler.batches()[self.seen :]):
            self.seen += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen % len(self)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.start = state["seen"]


class EvaluationLoader:
    """All of some images in their order, each batch split over the devices without repeating any.

    The last batch may leave a device without images: it then gets an empty one, so that all devices
    take the same number of steps.
    """

    def __init__(
        self, indices: np.ndarray, fetch: Fetch, *, batch: int, rank: int, devices: int
    ) -> None:
        self.indices, self.fetch = indices, fetch
        self.batch, self.rank, self.devices = batch * devices, rank, devices

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch)

    def __iter__(self) -> Iterator[Batch]:
        whole = np.split(self.indices, range(self.batch, len(self.indices), self.batch))
        yield from self.fetch(0, [np.array_split(b, self.devices)[self.rank] for b in whole])
