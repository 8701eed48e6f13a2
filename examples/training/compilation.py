"""``torch.compile`` for networks with Brevitas layers."""

from __future__ import annotations

import torch
from torch import nn

from .failures import TrainingError
from .recipe import REDUCE_OVERHEAD


def compile_network(network: nn.Module, backend: str, device: torch.device) -> None:
    """Compile a network in place, quantizers and all, so that its state dict keeps its names.

    Raises:
        TrainingError: for an unknown backend, and for CUDA graphs where there is no GPU.
    """
    how = {"backend": backend}
    if backend == REDUCE_OVERHEAD:
        if device.type != "cuda":
            raise TrainingError(
                f"compile: {backend} records CUDA graphs and needs a GPU; the CPU has inductor"
            )
        how = {"mode": backend}
    try:
        network.compile(**how)
    except RuntimeError as error:
        raise TrainingError(f"compile: {error}") from error
