"""Compare what a file's quantizers give with what PyTorch's give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...levels import LevelFunction
from .rounding import Bounded, outward
from .verify_report import LISTED, OUTPUT, Excused, OutputReport, QuantizerReport

LARGE = (1e4, 1e30, torch.finfo(torch.float32).max)
# An exporter or runtime may fold factors that the bound knows apart: beyond the bound nothing is
# excused, beyond this many of it the file computes something else.
BOUNDS_OF_ANOTHER_FORM = 2


@dataclass(frozen=True)
class Risk:
    """The units of a quantizer that rounding may move over a threshold.

    Attributes:
        at_risk: boolean tensor of the units whose threshold lies within the bound.
        low: float64 tensor, for each of these the least that a float32 pre-activation may be.
        high: as ``low``, the most.
    """

    at_risk: Tensor
    low: Tensor
    high: Tensor

    def excuses(self, source: Tensor | None) -> Tensor:
        """Units at risk whose pre-activation, where it is known, lies within the bound."""
        if source is None or source.shape != self.at_risk.shape:
            return self.at_risk
        values = source[self.at_risk].double()
        excused = self.at_risk.clone()
        excused[self.at_risk] = (self.low <= values) & (values <= self.high)
        return excused


def different(expected: Tensor, found: Tensor) -> Tensor:
    """Where two results differ, as a boolean tensor; everywhere if their shapes do."""
    if expected.shape != found.shape:
        return torch.ones_like(expected, dtype=torch.bool)
    return ~(expected == found)


def compare_alone(report: QuantizerReport, expected: Tensor, found: Tensor) -> None:
    """Level one: same input, so the same values, without excuse."""
    report.compared += expected.numel()
    report.quantizer_mismatches += int(different(expected, found).sum())


def compare_in_layer(
    report: QuantizerReport,
    function: LevelFunction,
    expected: Tensor,
    found: Tensor,
    z: Bounded | None,
    *,
    first_image: int,
    sources: Sequence[Tensor] = (),
    explained: Tensor | None = None,
) -> Risk:
    """Level two: the layer's inputs are the same, so differences need a threshold within the bound.

    A pre-activation beyond the bound is no excuse. Beyond twice the bound it is a difference of its
    own, whatever the integer behind it: the layer computes something else, and on other inputs the
    integers would differ.

    Args:
        report: is added to.
        function: the quantizer's levels.
        expected: PyTorch's result.
        found: the file's.
        z: the pre-activation with its bound; None excuses nothing.
        first_image: position of this chunk in the batch.
        sources: the pre-activations themselves, PyTorch's and the file's.
        explained: boolean tensor of the units that may be excused, where more is known of them.
    """
    wrong = different(expected, found)
    if z is None or z.value.shape != expected.shape or found.shape != expected.shape:
        report.layer_mismatches += int(wrong.sum())
        nothing = torch.empty(0, dtype=torch.float64)
        return Risk(torch.zeros_like(wrong), nothing, nothing)
    low, high = (function.levels(end) for end in outward(z))
    at_risk = low != high
    report.at_risk += int(at_risk.sum())
    unexcused = wrong.clone()
    for source in sources:
        unexcused |= beyond_bound(source, z, times=BOUNDS_OF_ANOTHER_FORM)
    if bool(wrong.any()):
        ours, theirs = integers(function, expected), integers(function, found)
        is_level = function.dequantize(theirs) == found
        attainable = (low <= ours) & (ours <= high) & (low <= theirs) & (theirs <= high)
        excused = wrong & is_level & attainable
        for source in sources:
            excused &= ~beyond_bound(source, z)
        if explained is not None:
            excused &= explained
        unexcused &= ~excused
        report.excused += int(excused.sum())
        report.list_excused(
            [
                Excused(
                    index=(first_image + where[0], *where[1:]),
                    z=float(z.value[where]),
                    bound=float(z.error[where]),
                    expected=int(ours[where]),
                    found=int(theirs[where]),
                )
                for where in map(tuple, excused.nonzero()[:LISTED].tolist())
            ]
        )
    report.layer_mismatches += int(unexcused.sum())
    value, error = z.value[at_risk], z.error[at_risk]
    return Risk(at_risk, value - error, value + error)


def beyond_bound(found: Tensor, bound: Bounded, *, times: int = 1) -> Tensor:
    """Where values lie outside (some times) a bound; everywhere if the shapes differ."""
    if found.shape != bound.value.shape:
        return torch.ones_like(bound.value, dtype=torch.bool)
    return ~((found.double() - bound.value).abs() <= times * bound.error)


def compare_free(
    report: OutputReport,
    quantizers: Sequence[tuple[str, Tensor, Tensor]],
    expected: Tensor,
    found: Tensor,
    beyond: Tensor,
) -> None:
    """The file as it is: a difference may only begin where a threshold lies within the bound.

    Args:
        report: is added to.
        quantizers: in graph order, the name, the units that differ and those that may.
        expected: PyTorch's output (N, …).
        found: the file's.
        beyond: which outputs differ by more than rounding.
    """
    images = len(expected)
    settled = torch.zeros(images, dtype=torch.bool)
    for name, wrong, may_differ in (*quantizers, (OUTPUT, beyond, torch.zeros_like(beyond))):
        begins = _by_image(wrong, images) & ~settled
        without_excuse = _by_image(wrong & ~may_differ, images) & begins
        report.mismatches += int(without_excuse.sum())
        report.excused += int((begins & ~without_excuse).sum())
        if report.first_difference is None and bool(without_excuse.any()):
            report.first_difference = name
        settled |= begins
    report.images += images
    if found.shape == expected.shape:
        difference = float((found.double() - expected).abs().nan_to_num(nan=torch.inf).max())
        report.max_difference = max(report.max_difference, difference)
        classes = [output.double().reshape(images, -1).argmax(1) for output in (found, expected)]
        report.same_class += int((classes[0] == classes[1]).sum())
    else:
        report.max_difference = torch.inf


def _by_image(units: Tensor, images: int) -> Tensor:
    """Images with any of these units; a quantized constant's are of every image."""
    return units.reshape(len(units), -1).any(1).expand(images)


def integers(function: LevelFunction, values: Tensor) -> Tensor:
    """Integers behind dequantized values."""
    return torch.round(values / function.scale + function.zero_point)


def adversarial_inputs(function: LevelFunction, like: Tensor) -> Tensor:
    """Inputs at which a wrong quantizer shows: each threshold, its two neighbours, ±0, extremes.

    Args:
        function: the quantizer's levels.
        like: an input of the quantizer, (N, C, …) or (N, C).

    Returns:
        float32 tensor (M, C, 1, …).
    """
    thresholds = function.thresholds()
    infinity = torch.tensor(torch.inf, dtype=torch.float32)
    largest = torch.finfo(torch.float32).max
    at_edges = torch.cat(
        [
            thresholds,
            torch.nextafter(thresholds, -infinity),
            torch.nextafter(thresholds, infinity),
        ],
        dim=1,
    ).clamp(-largest, largest)
    others = [0.0, -0.0, *LARGE, *(-value for value in LARGE)]
    others = torch.tensor(others, dtype=torch.float32)
    values = torch.cat([at_edges, others.expand(len(thresholds), -1)], dim=1)
    channels = like.shape[1] if like.dim() > 1 else 1
    columns = values.T.expand(-1, channels) if len(thresholds) == 1 else values.T
    return columns.reshape(*columns.shape, *(1,) * (like.dim() - 2)).contiguous()
