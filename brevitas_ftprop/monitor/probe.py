"""The loss on a fixed batch, on which activations are compared from one sample to the next."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional


def is_batch(probe: Any) -> bool:
    """Whether a probe is a pair of tensors, images and labels."""
    return (
        isinstance(probe, tuple | list)
        and len(probe) == 2
        and all(isinstance(each, Tensor) for each in probe)
    )


def check_probe(probe: Any) -> None:
    """Raise unless a probe is a batch, a function or None.

    Raises:
        TypeError: if it is anything else.
    """
    if probe is not None and not callable(probe) and not is_batch(probe):
        raise TypeError(
            "probe must be a batch (images, labels) of tensors, or a function that computes the "
            f"loss on one, not {type(probe).__name__}"
        )


def probe_loss(model: nn.Module, probe: Any) -> Callable[[], Tensor] | None:
    """The function that computes a probe's loss: of a batch, the model's cross-entropy.

    >>> import torch
    >>> loss = probe_loss(nn.Identity(), (torch.zeros(2, 4), torch.tensor([0, 3])))
    >>> round(float(loss()), 4)
    1.3863
    """
    if not is_batch(probe):
        return probe
    images, labels = probe
    return lambda: functional.cross_entropy(model(images), labels)
