"""A part of a network that has no gradient: a table, a program, another process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .recording import Recording


class BlackBox(nn.Module):
    """A function of tensors inside a network, around which the network is trained.

    Forwards ``y = function(x)``; backwards nothing passes, the gradient of ``x`` is 0. Inside
    :func:`search_targets` a ``local_search`` finds targets for the sign quantizer in front of it by
    calling the function again, so that the layers below learn too.

    Args:
        function: takes a detached tensor of shape (N, ...) and gives a float tensor of shape
            (N, ...), each row of its own row alone, and the same for the same input.

    Raises:
        TypeError: when called, if the function gives anything but a float tensor.
        ValueError: when called, if it gives other rows than it was given, or its result differs in
            dtype or in a row's shape from the first call's.

    >>> from brevitas.nn import QuantIdentity
    >>> from brevitas_ftprop.quant import TargetPropSignedBinaryActPerTensorConst as Sign
    >>> from brevitas_ftprop.search import search_targets
    >>> _ = torch.manual_seed(0)
    >>> first = nn.Linear(2, 2)
    >>> model = nn.Sequential(first, QuantIdentity(Sign), BlackBox(lambda x: x.amax(1, True)))
    >>> with search_targets(model, "local_search(candidates=8)"):
    ...     model(torch.ones(1, 2)).square().sum().backward()
    >>> first.weight.grad.shape
    torch.Size([2, 2])
    """

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        if not callable(function):
            raise TypeError(f"expected a function of a tensor, not {function!r}")
        self.function = function
        self._kind: tuple[torch.dtype, torch.Size] | None = None

    def forward(self, x: Any) -> Tensor:
        x = getattr(x, "value", x)
        with Recording.paused():
            y = _NoGradient.apply(x, self._checked)
        assert isinstance(y, Tensor)
        Recording.add_function(self._checked, x, y)
        return y

    def _checked(self, x: Tensor) -> Tensor:
        y = self.function(x)
        if not isinstance(y, Tensor) or not y.is_floating_point():
            what = y.dtype if isinstance(y, Tensor) else type(y).__name__
            raise TypeError(f"a black box must give a float tensor, not {what}")
        if y.shape[:1] != x.shape[:1]:
            raise ValueError(
                f"a black box must give a row for each of the {len(x)} that it gets, not "
                f"{tuple(y.shape)}"
            )
        kind = y.dtype, y.shape[1:]
        if self._kind not in (None, kind):
            raise ValueError(
                f"the black box gave rows of {self._kind} before and of {kind} now: they must not "
                "change between calls"
            )
        self._kind = kind
        return y.detach()


class _NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(x)
        y = function(x.detach())
        # An input as it is would stay in the graph.
        return y.clone() if y.data_ptr() == x.data_ptr() else y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return torch.zeros_like(x), None
