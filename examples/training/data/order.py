"""The order and the augmentation of images: functions of seed, epoch and image alone.

No generator's state is carried along, so that neither workers, nor devices, nor a resumed run
change what a step sees.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# Streams of random numbers that must not be the same.
CHOICE, ORDER, AUGMENTATION = range(3)


def chosen(count: int, train: int | None, held_out: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices to train on and to hold out, a choice that is the same in every run.

    The two are taken from the two ends of one permutation, so that neither depends on the other's
    size.
    """
    permutation = np.random.default_rng(CHOICE).permutation(count)
    first = held_out if train is None else count - train
    return np.sort(permutation[first:]), np.sort(permutation[:held_out])


def uniform_draws(seed: int, epoch: int, count: int, draws: int) -> Tensor:
    """Uniform numbers in [0, 1), a row for each of ``count`` images that does not depend on it."""
    generator = np.random.default_rng([AUGMENTATION, seed, epoch])
    return torch.from_numpy(generator.random((count, draws), dtype=np.float32))


def image_seed(seed: int, epoch: int, index: int) -> int:
    """Seed of one image's augmentation in one epoch."""
    return int(np.random.SeedSequence([AUGMENTATION, seed, epoch, index]).generate_state(1)[0])


class EpochOrder:
    """The batches that one device sees in an epoch, each optimizer step's images split evenly.

    A step's images are the same for any number of devices and accumulated parts. What is left
    over at the end of an epoch is not seen in it.

    Args:
        indices: of the images to train on.
        seed: of the order.
        step: images of an optimizer step.
        parts: into how many batches each device splits its share.
        rank, devices: which device this is, and of how many.
    """

    def __init__(
        self, indices: np.ndarray, seed: int, *, step: int, parts: int, rank: int, devices: int
    ) -> None:
        self.indices, self.seed = indices, seed
        self.step, self.parts, self.rank, self.devices = step, parts, rank, devices
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """What Lightning calls at the start of an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.indices) // self.step * self.parts

    def batches(self) -> np.ndarray:
        """Indices of shape (batches, images of a batch)."""
        generator = np.random.default_rng([ORDER, self.seed, self.epoch])
        steps = len(self.indices) // self.step
        order = generator.permutation(self.indices)[: steps * self.step]
        shares = order.reshape(steps, self.parts, self.devices, -1)
        return shares[:, :, self.rank].reshape(steps * self.parts, -1)
