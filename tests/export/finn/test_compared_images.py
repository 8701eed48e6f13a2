"""Options and images in the types that users have them in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brevitas_ftprop.export.accelerator_io import checked_io
from brevitas_ftprop.export.finn.compared_images import images_to_compare

EXAMPLE = torch.zeros(1, 3, 8, 8)


@pytest.mark.parametrize("made", [list, np.array, torch.tensor], ids=["list", "numpy", "torch"])
def test_mean_and_std_are_any_sequence_of_numbers(made):
    io = checked_io("uint8", "class", None, made([0.5] * 3), made([0.25] * 3), EXAMPLE)
    assert (io.mean, io.std) == ((0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize("images", ["float", "uint8"])
def test_images_may_require_a_gradient(images):
    numbers = ((0.5,) * 3, (0.25,) * 3) if images == "uint8" else (None, None)
    io = checked_io(images, "class", None, *numbers, EXAMPLE)
    example = EXAMPLE.clone().requires_grad_()
    assert len(images_to_compare(example, None, io)[1]) == 6
    assert len(images_to_compare(EXAMPLE, example, io)[1]) == 1
    assert example.requires_grad
