"""Windows of outputs that a window of inputs reaches, in convolutions and pools."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .patch import Patch


@dataclass(frozen=True)
class Reach:
    """What a window reaches through a kernel, with every dimension's stride, padding and dilation.

    Where the window begins relative to the outputs depends on its place modulo the stride: its
    *phase*, of which there are as many as the product of the strides.

    Attributes:
        window, kernel, stride, padding, dilation: of each dimension.
    """

    window: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def spans(self) -> tuple[int, ...]:
        """Places that a kernel spans, less one."""
        return tuple((k - 1) * d for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def outputs(self) -> tuple[int, ...]:
        """The window of outputs."""
        return tuple(
            (w - 1 + span) // s + 1
            for w, span, s in zip(self.window, self.spans, self.stride, strict=True)
        )

    @property
    def inputs(self) -> tuple[int, ...]:
        """The window of all inputs of these outputs."""
        return tuple(
            (o - 1) * s + span + 1
            for o, s, span in zip(self.outputs, self.stride, self.spans, strict=True)
        )

    def of(self, patch: Patch) -> tuple[tuple[Tensor, ...], Tensor]:
        """Where the windows of outputs begin, and the windows' phases."""
        origin, phase = [], torch.zeros_like(patch.rows)
        for start, p, s, span in zip(
            patch.origin, self.padding, self.stride, self.spans, strict=True
        ):
            first = -torch.div(span - start - p, s, rounding_mode="floor")
            origin.append(first)
            phase = phase * s + (span + first * s - start - p)
        return tuple(origin), phase

    def inputs_origin(self, origin: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Where the windows of inputs begin."""
        return tuple(
            first * s - p for first, s, p in zip(origin, self.stride, self.padding, strict=True)
        )

    def taps(self) -> Tensor:
        """Which number of a kernel leads from a place of the window to one of the outputs.

        Returns:
            Shape (phases, places of the window, outputs); the kernel's size where none does.
        """
        each = []
        for w, k, s, d, span, o in zip(
            self.window,
            self.kernel,
            self.stride,
            self.dilation,
            self.spans,
            self.outputs,
            strict=True,
        ):
            phase, place, output = torch.meshgrid(*map(torch.arange, (s, w, o)), indexing="ij")
            distance = span - phase + place - output * s
            tap = distance // d
            known = (distance % d == 0) & (tap >= 0) & (tap < k)
            each.append((k, torch.where(known, tap, -1)))
        taps, known = torch.zeros(1, 1, 1, dtype=torch.long), torch.ones(1, 1, 1, dtype=torch.bool)
        for k, tap in each:
            taps, known = (_outer(taps * k, tap, torch.add), _outer(known, tap >= 0, torch.mul))
        return torch.where(known, taps, math.prod(self.kernel))

    def pasted(self) -> Tensor:
        """Which place of the window stands at each of the inputs.

        Returns:
            Shape (phases, inputs); the window's size where none does.
        """
        places = torch.zeros(1, 1, dtype=torch.long)
        known = torch.ones(1, 1, dtype=torch.bool)
        for w, s, span, length in zip(
            self.window, self.stride, self.spans, self.inputs, strict=True
        ):
            at = torch.arange(length) - (span - torch.arange(s)[:, None])
            places = _outer(places * w, at.clamp(0, w - 1), torch.add)
            known = _outer(known, (at >= 0) & (at < w), torch.mul)
        return torch.where(known, places, math.prod(self.window))

    def kernels(self, window: Tensor) -> list[Tensor]:
        """For each number of the kernel, what it stands on for all outputs.

        Args:
            window: shape (F, *inputs, channels).
        """
        views = []
        for offsets in itertools.product(*map(range, self.kernel)):
            view = window
            for dim, (at, d, s, o) in enumerate(
                zip(offsets, self.dilation, self.stride, self.outputs, strict=True), 1
            ):
                view = view.narrow(dim, at * d, (o - 1) * s + 1)
                view = view[(slice(None),) * dim + (slice(None, None, s),)]
            views.append(view)
        return views


def _outer(left: Tensor, right: Tensor, combine) -> Tensor:
    """Dimensions pairwise, the right one the faster."""
    shape = [a * b for a, b in zip(left.shape, right.shape, strict=True)]
    for dim in range(left.dim()):
        left, right = left.unsqueeze(2 * dim + 1), right.unsqueeze(2 * dim)
    return combine(left, right).reshape(shape)
