"""Large images: decoded and augmented by worker processes while the network trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from brevitas_ftprop.runs.image_files import decode

from ..failures import TrainingError
from .loader import Batch
from .order import image_seed


class StreamedImages(Dataset):
    """Images of a folder, their random transformations seeded by (seed, epoch, index).

    Args:
        folder: the images.
        transform: of a uint8 tensor of shape (3, H, W) to (3, *size); may draw from torch's
            generator.
        size: of what it gives.
        seed: of the transformations.
        workers: processes, which live as long as this does.
        pin: whether to lay batches in page-locked memory.
        prefetch: batches that each of them decodes ahead.
    """

    def __init__(
        self,
        folder: ImageFolder,
        transform: v2.Transform,
        size: tuple[int, int],
        *,
        seed: int,
        workers: int,
        pin: bool,
        prefetch: int = 2,
    ) -> None:
        self.folder, self.transform, self.size, self.seed = folder, transform, size, seed
        self.batches: list[list[tuple[int, int]]] = []
        self.loader = DataLoader(
            self,
            batch_sampler=self.batches,
            num_workers=workers,
            prefetch_factor=prefetch if workers else None,
            persistent_workers=workers > 0,
            pin_memory=pin,
            collate_fn=self._collated,
        )

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int] | TrainingError:
        epoch, index = key
        path, label = self.folder.samples[index]
        try:
            image = decode(path)
        except ValueError as error:
            # Not raised here: a worker's exceptions arrive with its whole traceback as message.
            return TrainingError(str(error))
        # Also within the main process, whose generator then goes on as if nothing was drawn.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(image_seed(self.seed, epoch, index))
            return self.transform(image), label

    def fetch(self, epoch: int, batches: Iterable[np.ndarray]) -> Iterator[Batch]:
        """Batches of images by their indices in the folder.

        Raises:
            TrainingError: names a file that cannot be decoded.
        """
        # The loader's own list, of which each pass takes what is then in it.
        self.batches[:] = [[(epoch, int(index)) for index in batch] for batch in batches]
        for batch in self.loader:
            if isinstance(batch, TrainingError):
                raise batch
            yield batch

    def _collated(self, samples: list[tuple[Tensor, int] | TrainingError]) -> Batch | TrainingError:
        for sample in samples:
            if isinstance(sample, TrainingError):
                return sample
        if samples:
            return tuple(default_collate(samples))
        return torch.empty(0, 3, *self.size, dtype=torch.uint8), torch.empty(0).long()
