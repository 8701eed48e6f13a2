"""The images of a recipe as Lightning asks for them."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import lightning
import numpy as np
import torch
from torch import Tensor

from ..failures import TrainingError
from ..recipe import Recipe
from ..sections import Data
from .imagenet import evaluation_transform, imagenet_folder, training_transform
from .loader import Batch, EvaluationLoader, TrainingLoader
from .order import EpochOrder, chosen
from .own_set import own_set
from .resident import ResidentImages
from .small_sets import SMALL
from .streamed import StreamedImages

NAMES = (*SMALL, "imagenet")
# Evaluation keeps no gradients, so that as many images fit as in training, and more.
EVALUATION_BATCH = 256
# Images of a set that stand for all in its hash.
HASHED = 64


class Images(lightning.LightningDataModule):
    """Training, validation and test images, sharded over the trainer's devices.

    Args:
        recipe: names them.
        workers: processes that decode large images.
        prefetch: batches that each of them decodes ahead.

    Attributes:
        classes: how many there are.
        steps: optimizer steps of an epoch.
        parts: names of the sets that are evaluated, in the order of their loaders.
        counts: how many images ``train``, ``validation`` and ``test`` have.

    Raises:
        TrainingError: for data that are not there, and numbers of images that do not fit them.
    """

    def __init__(self, recipe: Recipe, workers: int = 0, prefetch: int = 2) -> None:
        super().__init__()
        self.recipe, self.data = recipe, recipe.data
        self.workers, self.prefetch = workers, prefetch
        data = self.data
        if data.name not in NAMES and ":" not in data.name:
            raise TrainingError(
                f"unknown data {data.name!r}; valid are {', '.join(NAMES)} and "
                "package.module:factory"
            )
        if not len(data.mean) == len(data.std) == data.channels:
            raise TrainingError(
                f"data.mean and data.std must have {data.channels} values, one a channel"
            )
        if data.name == "imagenet":
            self.set = None
            self.folders = {part: imagenet_folder(data, part) for part in ("train", "val")}
            train, test = (len(folder.samples) for folder in self.folders.values())
            self.classes = len(self.folders["train"].classes)
        else:
            self.set = SMALL.get(data.name, own_set)(data)
            train, test = len(self.set.train.labels), len(self.set.test.labels)
            self.classes = self.set.classes
        self._check(train)
        trained, validated = chosen(train, data.train_images, data.validation_images)
        tested, _ = chosen(test, min(data.test_images or test, test), 0)
        self.indices = {"train": trained, "validation": validated, "test": tested}
        self.counts = {name: len(indices) for name, indices in self.indices.items()}
        if self.counts["train"] < recipe.batch_size:
            raise TrainingError(
                f"batch_size {recipe.batch_size} is more than the {self.counts['train']} images "
                "to train on"
            )
        self.steps = self.counts["train"] // recipe.batch_size
        wanted = {"validation": data.validation_images > 0, "test": recipe.test == "epoch"}
        self.parts = [part for part, is_wanted in wanted.items() if is_wanted]
        self.resident: dict[str, ResidentImages] = {}

    def summary(self) -> str:
        """What was found, and what becomes of it."""
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items() if count)
        size, channels = self.data.size, self.data.channels
        parts = [counts, f"{self.classes} classes", f"{channels}×{size[0]}×{size[1]}"]
        if self.set is not None:
            found, height, width = self.set.shape
            if (height, width) != size:
                parts.append(f"resized from {width}×{height}")
            if found != channels:
                parts.append(f"from {found} {'channel' if found == 1 else 'channels'}")
        others = self.set.left_out if self.set is not None else ""
        return f"data {self.data.name}: {', '.join(parts)}\n{others}".rstrip()

    def fingerprint(self) -> str:
        """Hash of all labels and of some images, which tells apart data of the same size."""
        digest = hashlib.sha256()
        if self.set is None:
            for folder in self.folders.values():
                digest.update(np.array(folder.targets, dtype=np.int64))
                for path, _ in folder.samples[:: -(-len(folder.samples) // HASHED)]:
                    digest.update(Path(path).read_bytes())
        else:
            for part in (self.set.train, self.set.test):
                count = len(part.labels)
                some = part.decode(np.arange(0, count, -(-count // HASHED)))
                digest.update(part.labels.astype(np.int64))
                digest.update(some.contiguous().numpy())
        return digest.hexdigest()[:16]

    def _check(self, train: int) -> None:
        data: Data = self.data
        if data.classes not in (None, self.classes):
            raise TrainingError(
                f"data.classes is {data.classes}, but data {data.name!r} has {self.classes}"
            )
        wanted = (data.train_images or 1) + data.validation_images
        if wanted > train:
            raise TrainingError(
                f"data.train_images and data.validation_images want {wanted} images of {train}"
            )

    def train_dataloader(self) -> TrainingLoader:
        recipe, trainer = self.recipe, self.trainer
        order = EpochOrder(
            self.indices["train"],
            recipe.seed,
            step=recipe.batch_size,
            parts=recipe.accumulate,
            rank=trainer.global_rank,
            devices=trainer.world_size,
        )
        return TrainingLoader(order, self._fetch("train"))

    def val_dataloader(self) -> list[EvaluationLoader]:
        return [self._evaluation(part) for part in self.parts]

    def test_dataloader(self) -> EvaluationLoader:
        return self._evaluation("test")

    def _evaluation(self, part: str) -> EvaluationLoader:
        return EvaluationLoader(
            self.indices[part],
            self._fetch(part),
            batch=EVALUATION_BATCH,
            rank=self.trainer.global_rank,
            devices=self.trainer.world_size,
        )

    def _fetch(self, part: str):
        data, seed = self.data, self.recipe.seed
        device = self.trainer.strategy.root_device
        if self.set is None:
            transform = training_transform if part == "train" else evaluation_transform
            return StreamedImages(
                self.folders["val" if part == "test" else "train"],
                transform(data),
                data.size,
                seed=seed,
                workers=self.workers,
                prefetch=self.prefetch,
                pin=device.type == "cuda",
            ).fetch
        if part not in self.resident:
            source = self.set.test if part == "test" else self.set.train
            indices = self.indices[part]
            self.resident[part] = ResidentImages(
                source.decode(indices).to(device),
                torch.from_numpy(source.labels[indices]).to(device),
                indices,
                seed=seed,
                crop_padding=data.crop_padding if part == "train" else 0,
                flip=data.flip and part == "train",
            )
        return self.resident[part].fetch

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        images, labels = batch
        mean, std = mean_and_std(self.data.mean, self.data.std, images.device)
        images = (images - mean) / std
        if self.recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images, labels


@lru_cache(maxsize=8)
def mean_and_std(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Of bytes, float32 of shape (C, 1, 1); a GPU is sent them once, not twice a batch."""
    # They outlive an evaluation, whose tensors training could not take.
    with torch.inference_mode(False):
        one, other = (
            torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1) * 255
            for values in (mean, std)
        )
    return one, other
