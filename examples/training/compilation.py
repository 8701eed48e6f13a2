"""``torch.compile`` for networks with Brevitas layers."""

from __future__ import annotations

from torch import nn

from .failures import TrainingError

__all__ = ["compile_network"]


def compile_network(network: nn.Module, backend: str) -> None:
    """Compile a network in place, quantizers and all, so that its state dict keeps its names.

    Raises:
        TrainingError: for an unknown backend.
    """
    try:
        network.compile(backend=backend)
    except RuntimeError as error:
        raise TrainingError(f"compile: {error}") from error
