"""What PyTorch computes on a batch, and how far a graph of any step may differ from it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from qonnx.core.modelwrapper import ModelWrapper
from torch import Tensor
from torch.nn import Module

from ...levels import level_function
from ..errors import VerificationError
from ..graph_reading import read_constant
from ..quantizers import ACTIVATION, WEIGHT, kind_of, quantizer_proxies
from ..verification.capture import capture
from ..verification.differences import integers
from ..verification.outputs import beyond_rounding
from ..verification.pre_activations import Interval, Lines
from ..verification.reference import Reference
from ..verification.rounding import Bounded, outward
from .execution import run
from .finn_report import ExcusedInStep, StepReport
from .tracking import TrackedQuantizer, tracked_quantizers

Key = tuple[str, int]


@dataclass(frozen=True)
class _Image:
    """One image's results in PyTorch.

    Attributes:
        output: the logits.
        bound: of the logits; None if unknown.
        levels: of each quantizer call, from 0 for the lowest to 1 for the highest level.
        at_risk: of each quantizer call, the units whose threshold lies within the rounding bound.
        intervals: of each quantizer call with a bound, where its pre-activations may lie.
    """

    output: Tensor
    bound: Bounded | None
    levels: dict[Key, np.ndarray]
    at_risk: dict[Key, np.ndarray]
    intervals: dict[Key, Interval]


class Oracle:
    """PyTorch's integers and logits on a batch, image by image.

    As in ``verify_export``, a unit may differ only where its pre-activation, in float64, lies
    within the float32 rounding bound of a threshold, and the graph's own lies where PyTorch's does:
    within twice the bound or, once scales have moved into the thresholds, both it and the threshold
    on the channel's line from the graph's numbers to PyTorch's (see ``pre_activations``). Where the
    graph has a quantizer on another side of a pool this is not known. An excused unit is set right,
    and what is behind it is computed again; without an excuse all behind it follows from it and is
    not judged. Likewise a class may be another than PyTorch's where the rounding bounds of both
    logits meet, as they do where their integers are equal.

    Args:
        model: in evaluation mode.
        batch: what the model takes, float32 (N, …).

    Raises:
        VerificationError: if a pre-activation is not finite.
    """

    def __init__(self, model: Module, batch: Tensor) -> None:
        proxies = {n: p for n, p in quantizer_proxies(model).items() if kind_of(p) == ACTIVATION}
        every = {n: p for n, p in quantizer_proxies(model).items() if kind_of(p) is not None}
        functions = {name: level_function(proxy) for name, proxy in proxies.items()}
        weights = {n: level_function(p) for n, p in every.items() if kind_of(p) == WEIGHT}
        # What a graph's results are multiplied with to be the logits.
        self.output_scale = 1.0
        self._thresholds = {n: f.thresholds().numpy() for n, f in functions.items()}
        self.reference = Reference(model, batch[:1], set(proxies))
        self.images: list[_Image] = []
        self._lines: defaultdict[tuple[str, Key], Lines] = defaultdict(Lines)
        for image in batch.split(1):
            captured = capture(model, every, image)
            bounds, output_bound = self.reference.bounds(image, captured, functions | weights)
            levels, at_risk, intervals = {}, {}, {}
            for name, function in functions.items():
                lowest = function.level_values[0]
                for call, seen in enumerate(captured.calls[name]):
                    ours = integers(function, seen.result) - lowest
                    levels[name, call] = ours.numpy() / (function.level_values[-1] - lowest)
                    z = bounds.get((name, call))
                    risky = torch.zeros_like(seen.result, dtype=torch.bool)
                    if z is not None and z.value.shape == seen.result.shape:
                        low, high = (function.levels(end) for end in outward(z))
                        risky = low != high
                        ends = (end.double().numpy() for end in outward(z))
                        intervals[name, call] = Interval.around(*ends)
                    at_risk[name, call] = risky.numpy()
            image = _Image(captured.output, output_bound, levels, at_risk, intervals)
            self.images.append(image)

    def compare_thresholds(self, report: StepReport, graph: ModelWrapper) -> None:
        """Compare thresholds on pre-activations with the quantizers' own, to the last bit.

        Args:
            report: of the step; is added to.
            graph: the step's qonnx model, its pre-activations still those of PyTorch.
        """
        entry = graph.graph.input[0].name
        for quantizer in tracked_quantizers(graph):
            behind = graph.find_producer(quantizer.source)
            kind = graph.get_tensor_datatype(quantizer.source)
            is_entering = quantizer.source == entry and kind.is_integer()
            if is_entering or (behind is not None and behind.op_type == "MaxPool"):
                continue
            found = read_constant(graph, quantizer.thresholds)
            wrong = found != self._own_thresholds(quantizer, graph)
            report.thresholds += wrong.size
            report.mismatches += int(wrong.sum())
            if wrong.any() and report.first_difference is None:
                report.first_difference = f"{quantizer.node} ({quantizer.name})"

    def _own_thresholds(self, quantizer: TrackedQuantizer, graph: ModelWrapper) -> np.ndarray:
        """The quantizer's own thresholds as a graph would have them, (1 or C, n)."""
        expected = self._thresholds[quantizer.name]
        count = read_constant(graph, quantizer.thresholds).shape[1]
        largest = np.finfo(np.float32).max
        # A sign of two bits has its one threshold twice.
        repeated = expected.repeat(count // expected.shape[1], axis=1)
        return np.clip(repeated, -largest, largest)

    def compare(
        self, report: StepReport, index: int, graph: ModelWrapper, entry: np.ndarray
    ) -> None:
        """Compare one image's tensors in a step's graph, and add to the report.

        Args:
            report: of the step.
            index: of the image in the batch.
            graph: the step's qonnx model, executable.
            entry: the image as the graph takes it.
        """
        image, quantizers = self.images[index], tracked_quantizers(graph)
        known = {quantizer.key for quantizer in quantizers}
        report.untracked = [
            f"{name}#{call}" for name, call in image.levels if (name, call) not in known
        ]
        output = graph.graph.output[0].name
        tensors = run(graph, {graph.graph.input[0].name: entry})
        given = tensors[output]
        for quantizer in quantizers:
            found = quantizer.levels(tensors[quantizer.tensor])
            wrong = self._wrong(quantizer, found, image)
            found = found.reshape(wrong.shape)
            excused = wrong & image.at_risk[quantizer.key].reshape(wrong.shape)
            source = tensors[quantizer.source]
            excused &= self._explained(report, image, graph, quantizer, source, found)
            if not self._is_excused(report, index, quantizer, found, wrong, excused):
                return
            if wrong.any():
                expected = image.levels[quantizer.key]
                right = expected.reshape(quantizer.levels(tensors[quantizer.tensor]).shape)
                tensors[quantizer.tensor] = quantizer.values(right).astype(np.float32)
                tensors = run(graph, tensors, behind=quantizer.tensor)
        report.images += 1
        report.same_class += _has_class_of(given, image.output)
        self._compare_output(report, index, tensors[output])

    def _wrong(self, quantizer: TrackedQuantizer, found: np.ndarray, image: _Image) -> np.ndarray:
        expected = image.levels[quantizer.key]
        if found.size != expected.size:
            raise VerificationError(
                f"{quantizer.node} gives {found.shape}, but {quantizer.name} gives {expected.shape}"
            )
        # The map that a flattening has become again behind the quantizer, or that it was before.
        shape = max(found.shape, expected.shape, key=len)
        # Quotients of small integers by the same number: equal integers give equal quotients.
        return found.reshape(shape) != expected.reshape(shape)

    def _explained(
        self,
        report: StepReport,
        image: _Image,
        graph: ModelWrapper,
        quantizer: TrackedQuantizer,
        source: np.ndarray,
        found: np.ndarray,
    ) -> np.ndarray:
        """The units whose own pre-activation lies where PyTorch's does, as far as is known."""
        key = quantizer.key
        interval = image.intervals.get(key)
        explained = np.ones(found.shape, dtype=bool)
        behind = graph.find_producer(quantizer.source)
        if (
            interval is None
            or quantizer.behind_pool
            or (behind is not None and "Pool" in behind.op_type)
        ):
            return explained
        source = np.moveaxis(source, -1, 1) if quantizer.channels_last else source
        source = source.reshape(found.shape).astype(np.float64)
        own = self._own_thresholds(quantizer, graph)
        theirs = read_constant(graph, quantizer.thresholds)
        interval = interval.shaped(found.shape)
        if np.all(own == theirs):
            return interval.holds(source)
        lines = self._lines[report.file, key]
        lines.add(source, interval)
        counts = np.stack([found, image.levels[key].reshape(found.shape)]) * theirs.shape[1]
        first, last = np.rint(counts.min(0)), np.rint(counts.max(0))
        whole = graph.get_tensor_datatype(quantizer.source).is_integer()
        for level in range(own.shape[1]):
            where = np.nonzero((first <= level) & (level < last))
            channels = where[1]
            explained[where] &= lines.agree(
                source[where],
                channels,
                Interval(interval.low[where], interval.high[where]),
                (_of(own, channels, level), _of(theirs, channels, level)),
                whole=whole,
            )
        return explained

    def _is_excused(
        self,
        report: StepReport,
        index: int,
        quantizer: TrackedQuantizer,
        found: np.ndarray,
        wrong: np.ndarray,
        excused: np.ndarray,
    ) -> bool:
        image, key = self.images[index], quantizer.key
        mismatches = int((wrong & ~excused).sum())
        expected = image.levels[key]
        found, excused = found.reshape(expected.shape), excused.reshape(expected.shape)
        report.compared += wrong.size
        report.excused += int(excused.sum())
        report.excused_units += [
            ExcusedInStep(
                index,
                *key,
                tuple(map(int, position)),
                round(float(found[tuple(position)]) * quantizer.span),
                round(float(expected[tuple(position)]) * quantizer.span),
            )
            for position in np.argwhere(excused)
        ]
        report.mismatches += mismatches
        if mismatches and report.first_difference is None:
            report.first_difference = f"{quantizer.node} ({quantizer.name})"
        return not mismatches

    def _compare_output(self, report: StepReport, index: int, found: np.ndarray) -> None:
        image = self.images[index]
        logits = image.output.reshape(-1)
        values = self.output_scale * torch.from_numpy(np.array(found, np.float32)).reshape(-1)
        if values.numel() != logits.numel():
            classes = int(values[0]), int(logits.argmax())
            is_wrong = not _has_class_of(found, image.output)
            if is_wrong and _is_tie(image.bound, *classes):
                is_wrong = False
                report.excused += 1
                report.excused_units.append(ExcusedInStep(index, "output", 0, (), *classes))
            wrong = torch.tensor(is_wrong)
        else:
            difference = float((values - logits).abs().max())
            report.max_difference = max(report.max_difference, difference)
            wrong = beyond_rounding(values.reshape(image.output.shape), image.output, image.bound)
        report.wrong_outputs += int(wrong.sum())
        if bool(wrong.any()) and report.first_difference is None:
            report.first_difference = "output"


def _has_class_of(found: np.ndarray, output: Tensor) -> bool:
    """Whether logits, or a class index, name a class that has PyTorch's largest logit."""
    logits = output.reshape(-1)
    index = int(found.reshape(-1)[0]) if found.size != logits.numel() else int(found.argmax())
    return bool(logits[index] == logits.max())


def _is_tie(bound: Bounded | None, one: int, other: int) -> bool:
    """Whether float32 rounding may give either of two logits as the larger one."""
    if bound is None:
        return False
    value, error = bound.value.reshape(-1), bound.error.reshape(-1)
    return bool((value[one] - value[other]).abs() <= error[one] + error[other])


def _of(thresholds: np.ndarray, channels: np.ndarray, level: int) -> np.ndarray:
    """A level's threshold of each unit; one row is that of all channels."""
    return thresholds[channels if len(thresholds) > 1 else np.zeros_like(channels), level]
