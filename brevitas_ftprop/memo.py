"""A memo of what a quantizer computes from constants alone, from one step to the next."""

from collections.abc import Callable, Hashable
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

MEMORY = "remembered_constants"


def remembered(
    owner: nn.Module,
    name: Hashable,
    sources: tuple[Tensor, ...],
    compute: Callable[[], tuple[Tensor, ...]],
) -> tuple[Tensor, ...]:
    """The results of ``compute()``, computed anew only where a source has changed.

    A source has changed where it is another tensor, as after ``.to()``, or was written to (but for
    writes through ``.data``, which torch does not count). Nothing is remembered of sources that
    learn, in a compiled, traced or exported graph, while a CUDA graph is captured, which fills
    tensors at its replay only, nor in inference mode, whose tensors cannot be trained with.

    Args:
        owner: the module that remembers the results; a copy of it has a memo of its own.
        name: tells apart what one owner remembers.
        sources: all tensors that the results depend on.
        compute: computes them; without gradient to anything but the sources.

    >>> owner, source = nn.Identity(), torch.tensor(3.0)
    >>> (first,) = remembered(owner, "double", (source,), lambda: (2 * source,))
    >>> (second,) = remembered(owner, "double", (source,), lambda: (2 * source,))
    >>> first is second
    True
    >>> _ = source.add_(1)
    >>> remembered(owner, "double", (source,), lambda: (2 * source,))
    (tensor(8.),)
    """
    if (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        or torch.is_inference_mode_enabled()
    ):
        return compute()
    for source in sources:
        if source.requires_grad or source.is_inference():
            return compute()
    memory: dict[Hashable, Any] = vars(owner).setdefault(MEMORY, {})
    found = memory.get(name)
    if found is not None:
        tensors, versions, results = found
        # The results too: whoever is given one may write to it.
        if all(map(is_, tensors, sources)) and versions == [each._version for each in tensors]:
            return results
    results = compute()
    tensors = (*sources, *results)
    if all(type(tensor) in (Tensor, nn.Parameter) for tensor in tensors) and not _capturing():
        memory[name] = (tensors, [tensor._version for tensor in tensors], results)
    return results


def _capturing() -> bool:
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def forget(owner: nn.Module) -> None:
    """Drop all that a module remembers.

    >>> forget(nn.Identity())
    """
    vars(owner).pop(MEMORY, None)
