"""Feed a file's quantizers and layers with PyTorch's values, and compare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from onnx import ModelProto
from torch import Tensor
from torch.nn import Module

from ...levels import LevelFunction, level_function, tensor_quant_of
from ..dependence import run_traced
from ..errors import VerificationError
from ..quantizers import ACTIVATION, WEIGHT, kind_of
from ..tags import Site
from .capture import Call, Captured, capture
from .cut_graphs import (
    FORCED_OUTPUT,
    forced,
    forced_name,
    input_shape,
    is_transposed,
    isolated,
    source_name,
)
from .declared import declares_otherwise
from .differences import (
    Risk,
    adversarial_inputs,
    compare_alone,
    compare_free,
    compare_in_layer,
    different,
)
from .free_run import FreeRun
from .outputs import beyond_rounding, interface_differences
from .reference import Reference
from .rounding import Bounded
from .runners import runner_for
from .verify_report import OutputReport, QuantizerReport, VerifyReport


@dataclass(frozen=True)
class _Reach:
    """How far one chunk's results may differ: units by quantizer, and the output."""

    risks: dict[Site, Risk]
    output: Bounded | None


class Verification:
    """Comparison of one file with one model, chunk by chunk of the file's batch size.

    Args:
        model: in evaluation mode.
        proxies: its quantizers by name.
        graph: the file's graph.
        sites: the quantizers in the file.
        path: of the file, for messages.
        reference: of the model; traced from it without one.
    """

    def __init__(
        self,
        model: Module,
        proxies: dict[str, Module],
        graph: ModelProto,
        sites: list[Site],
        path: Path,
        reference: Reference | None = None,
    ) -> None:
        self.model, self.proxies, self.graph, self.path = model, proxies, graph, path
        self.reference = reference
        unknown = sorted({site.name for site in sites} - set(proxies))
        if unknown:
            raise VerificationError(
                f"{path} has a quantizer {unknown[0]} that the model lacks: "
                "it was exported from another architecture"
            )
        kinds = {site: kind_of(proxies[site.name]) for site in sites}
        self.activations = [site for site in sites if kinds[site] == ACTIVATION]
        self.weights = [site for site in sites if kinds[site] == WEIGHT]
        self.reports = {site: QuantizerReport(_label(site), str(kinds[site])) for site in sites}
        self.functions: dict[str, LevelFunction] = {
            site.name: level_function(proxies[site.name]) for site in self.activations
        }
        self.runner = runner_for(graph)
        self.input = graph.graph.input[0].name
        self.report = VerifyReport(quantizers=list(self.reports.values()))

    def run(self, batch: Tensor) -> VerifyReport:
        """Compare on a batch (N, …), N a multiple of the file's batch size."""
        size = input_shape(self.graph)[0]
        chunks = [chunk.contiguous() for chunk in batch.split(size)]
        first = capture(self.model, self.proxies, chunks[0])
        self._check_calls(first, chunks[0])
        self._compare_declared()
        self.report.interface = interface_differences(
            self.graph, self.runner.names, chunks[0], first.output
        )
        # One pass for the layers and one for each optimization level, so that few copies of the
        # weights are alive at a time.
        reaches = self._compare_layers(chunks, first, size)
        for level in self.runner.levels:
            report = OutputReport(level)
            self.report.outputs.append(report)
            self._compare_free(report, chunks, reaches)
        return self.report

    def _compare_layers(self, chunks: Sequence[Tensor], first: Captured, size: int) -> list[_Reach]:
        """Quantizers alone, and layers fed PyTorch's integers; what may differ behind them."""
        alone = None
        with self._running():
            # A graph needs an output; a model may quantize weights only.
            if self.activations:
                alone = self.runner(self._isolated(self._sources(first)))
            layers = self.runner(self._forced(first))
            self._compare_weights(first)
            self._compare_adversarial(first)
        names = {site.name for site in self.activations}
        reference = self.reference or Reference(self.model, chunks[0], names)
        reaches = []
        for position, chunk in enumerate(chunks):
            captured = capture(self.model, self.proxies, chunk) if position else first
            expected = {site: self._call(captured, site).result for site in self.activations}
            inside = {self.input: chunk}
            inside |= {forced_name(site): value for site, value in expected.items()}
            with self._running():
                by_quantizer = alone.run(self._sources(captured)) if alone else {}
                by_layer = layers.run(inside)
            read = by_layer | inside | {s.result: inside[forced_name(s)] for s in expected}
            bounds, bound = reference.bounds(chunk, captured)
            risks = {}
            for site, values in expected.items():
                compare_alone(self.reports[site], values, by_quantizer[site.result])
                risks[site] = compare_in_layer(
                    self.reports[site],
                    self.functions[site.name],
                    values,
                    by_layer[site.result],
                    bounds.get((site.name, site.call)),
                    first_image=position * size,
                    # A constant is in the file itself, quantized there.
                    sources=()
                    if site.source is None
                    else (self._call(captured, site).source, read[site.source]),
                )
            wrong = beyond_rounding(by_layer[FORCED_OUTPUT], captured.output, bound)
            wrong |= beyond_rounding(captured.output, captured.output, bound)
            self.report.output_mismatches += int(wrong.sum())
            reaches.append(_Reach(risks, bound))
        self.report.unbounded = reference.unbounded
        return reaches

    def _compare_free(
        self, report: OutputReport, chunks: Sequence[Tensor], reaches: Sequence[_Reach]
    ) -> None:
        """The file as it is, at one optimization level."""
        with self._running():
            free = FreeRun(self.graph, self.activations, runner=self.runner, level=report.level)
        for chunk, reach in zip(chunks, reaches, strict=True):
            captured = capture(self.model, self.proxies, chunk)
            with self._running():
                output, results, sources = free({self.input: chunk})
            differences = [
                (
                    _label(site),
                    different(self._call(captured, site).result, found),
                    reach.risks[site].excuses(sources.get(site)),
                )
                for site, found in results.items()
            ]
            beyond = beyond_rounding(output, captured.output, reach.output)
            compare_free(report, differences, captured.output, output, beyond)

    def _check_calls(self, captured: Captured, chunk: Tensor) -> None:
        """The file has the calls of quantizers that the model's output depends on, and no others.

        Calls whose result nobody uses may be left out; calls on one and the same weight may be
        merged.
        """
        _, needed = run_traced(self.model, chunk)
        in_file: dict[str, set[int]] = {name: set() for name in self.proxies}
        for site in (*self.activations, *self.weights):
            in_file[site.name].add(site.call)
        for name, calls in captured.calls.items():
            found = in_file[name]
            missing = {call for owner, call in needed if owner == name} - found
            is_weight = kind_of(self.proxies[name]) == WEIGHT
            if is_weight and found and _all_same(calls):
                missing = set()
            if missing or max(found, default=-1) >= len(calls):
                raise VerificationError(
                    f"the model calls {name} {len(calls)} times, {self.path} {len(found)} times: "
                    "it was exported from another architecture"
                )
        for site in self.activations:
            function, call = self.functions[site.name], self._call(captured, site)
            value = function.dequantize(function.levels(call.source))
            if bool(different(call.result, value).any()):
                raise VerificationError(
                    f"{site.name} does not compute what its level function says: "
                    "this quantizer cannot be verified"
                )

    def _compare_declared(self) -> None:
        for site, report in self.reports.items():
            try:
                function = level_function(self.proxies[site.name])
            except TypeError:
                # Stock weight quantizers that only Brevitas' own handlers know.
                continue
            report.declared_mismatches = int(declares_otherwise(self.graph, site, function))

    def _compare_weights(self, captured: Captured) -> None:
        if not self.weights:
            return
        found = self.runner(isolated(self.graph, self.weights, {})).run({})
        for site in self.weights:
            expected = self._call(captured, site).result
            if is_transposed(self.graph, site):
                expected = expected.mT
            compare_alone(self.reports[site], expected, found[site.result])

    def _compare_adversarial(self, captured: Captured) -> None:
        inputs = {
            site: adversarial_inputs(self.functions[site.name], self._call(captured, site).source)
            for site in self.activations
            if site.source is not None
        }
        if not inputs:
            return
        sources = {source_name(site): values for site, values in inputs.items()}
        found = self.runner(self._isolated(sources)).run(sources)
        for site, values in inputs.items():
            with torch.no_grad():
                expected = tensor_quant_of(self.proxies[site.name])(values)[0]
            report = self.reports[site]
            report.adversarial += values.numel()
            report.adversarial_mismatches += int(different(expected, found[site.result]).sum())

    def _isolated(self, sources: dict[str, Tensor]) -> ModelProto:
        shapes = {name: tuple(value.shape) for name, value in sources.items()}
        return isolated(self.graph, self.activations, shapes)

    def _forced(self, captured: Captured) -> ModelProto:
        shapes = {
            forced_name(site): tuple(self._call(captured, site).result.shape)
            for site in self.activations
        }
        return forced(self.graph, self.activations, shapes)

    def _sources(self, captured: Captured) -> dict[str, Tensor]:
        return {
            source_name(site): self._call(captured, site).source
            for site in self.activations
            if site.source is not None
        }

    def _call(self, captured: Captured, site: Site) -> Call:
        calls = captured.calls[site.name]
        # Calls on one and the same weight may be merged in the file.
        return calls[site.call] if site.call < len(calls) else calls[0]

    @contextmanager
    def _running(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise VerificationError(
                f"{self.path} cannot be run on what this model's quantizers give (a file of "
                f"another architecture cannot): {type(error).__name__}: {reason}"
            ) from error


def _all_same(calls: list[Call]) -> bool:
    return all(torch.equal(call.source, calls[0].source) for call in calls[1:])


def _label(site: Site) -> str:
    return f"{site.name}#{site.call}" if site.call else site.name
