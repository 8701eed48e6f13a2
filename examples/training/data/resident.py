"""Small images: decoded once, kept as bytes on the device, and augmented there by the batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from .loader import Batch
from .order import uniform_draws


class ResidentImages:
    """Images on a device, of which batches are gathered by index.

    Args:
        images: uint8 of shape (n, C, H, W), of the images at ``indices``.
        labels: int64 of shape (n,).
        indices: of the images in the whole set, in rising order.
        seed: of the augmentation.
        crop_padding, flip: the augmentation; none in evaluation.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        indices: np.ndarray,
        *,
        seed: int = 0,
        crop_padding: int = 0,
        flip: bool = False,
    ) -> None:
        self.images, self.labels, self.indices = images, labels, indices
        self.seed, self.crop_padding, self.flip = seed, crop_padding, flip

    def fetch(self, epoch: int, batches: Iterable[np.ndarray]) -> Iterator[Batch]:
        """Batches of images by their indices in the whole set."""
        device = self.images.device
        augmented = self.crop_padding > 0 or self.flip
        if augmented:
            draws = uniform_draws(self.seed, epoch, int(self.indices[-1]) + 1, 3)
            draws = draws[self.indices].to(device)
        rows = [torch.from_numpy(np.searchsorted(self.indices, batch)) for batch in batches]
        if not rows:
            return
        # One transfer an epoch instead of one a batch.
        for row in torch.cat(rows).to(device).split([len(row) for row in rows]):
            images = self.images[row]
            if augmented:
                images = crop_and_flip(images, draws[row], self.crop_padding, self.flip)
            yield images, self.labels[row]


def crop_and_flip(images: Tensor, draws: Tensor, padding: int, flip: bool) -> Tensor:
    """Random crops of zero-padded images, mirrored or not.

    Args:
        images: of shape (N, C, H, W).
        draws: uniform numbers of shape (N, 3): vertical and horizontal offset, and the flip.
        padding: pixels on each side.
        flip: whether to mirror those with a last draw below a half.
    """
    count, _, height, width = images.shape
    device = images.device
    top, left = (draws[:, :2] * (2 * padding + 1)).long().unbind(1)
    rows = top[:, None] + torch.arange(height, device=device)
    columns = torch.arange(width, device=device).expand(count, -1)
    if flip:
        columns = torch.where(draws[:, 2:] < 0.5, columns.flip(1), columns)
    columns = left[:, None] + columns
    padded = pad(images, (padding,) * 4)
    image = torch.arange(count, device=device)[:, None, None]
    # The advanced indices come first, the channels last.
    crops = padded[image, :, rows[:, :, None], columns[:, None, :]]
    return crops.permute(0, 3, 1, 2).contiguous()
