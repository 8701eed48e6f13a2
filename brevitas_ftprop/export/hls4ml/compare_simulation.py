"""Compare the integers and outputs of a C simulation with PyTorch's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from ...levels import level_function
from ..errors import VerificationError
from ..float32 import UNIT
from ..quantizers import ACTIVATION, kind_of, quantizer_proxies
from ..verification.capture import capture
from ..verification.differences import adversarial_inputs, compare_in_layer, different
from ..verification.pre_activations import Interval, Lines
from ..verification.reference import Reference
from ..verification.rounding import Bounded, outward
from ..verification.verify_report import QuantizerReport
from .hls4ml_report import Hls4mlReport, LayerReport


def threshold_images(model: Module, quantizer: str, shape: tuple[int, ...], count: int) -> Tensor:
    """Images of values at and beside the thresholds of the input's quantizer, and far outside.

    Args:
        model: in evaluation mode.
        quantizer: name of the quantizer of the input.
        shape: of one image.
        count: number of images.

    Returns:
        float32 tensor (count, *shape).
    """
    function = level_function(quantizer_proxies(model)[quantizer])
    values = adversarial_inputs(function, torch.zeros(1, 1)).reshape(-1)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(len(values), (count, *shape), generator=generator)
    return values[chosen]


def compare(
    model: Module,
    batch: Tensor,
    integers: Mapping[tuple[str, int], Tensor],
    sums: Mapping[tuple[str, int], Tensor],
    output: Tensor,
    report: Hls4mlReport,
) -> None:
    """Add to a report what differs.

    In each image the layers are compared in order. Up to the first that differs, the simulation's
    layers read the integers that PyTorch's read; so there a difference is excused if both integers
    lie within the float32 rounding bound, and the simulation's own sum lies where PyTorch's
    pre-activation does: in each channel that is a line over the sums. What follows from an excused
    difference is not compared.

    Args:
        model: in evaluation mode.
        batch: float32 tensor (N, …).
        integers: of each quantizer by its name and call, zero-points taken off, in PyTorch's
            layout.
        sums: likewise, what each quantizer's thresholds are compared with, where that is known; it
            is not before a pool that PyTorch has before the quantizer, nor for the input's.
        output: float64 tensor (N, …).
        report: is added to.

    Raises:
        VerificationError: if a call of a quantizer was not simulated.
    """
    proxies = {n: p for n, p in quantizer_proxies(model).items() if kind_of(p) is not None}
    captured = capture(model, proxies, batch)
    activations = {n for n, proxy in proxies.items() if kind_of(proxy) == ACTIVATION}
    bounds, output_bound = Reference(model, batch, activations).bounds(batch, captured)
    made = {(name, call) for name in activations for call in range(len(captured.calls[name]))}
    left_out = sorted(made - set(integers))
    if left_out:
        raise VerificationError(f"the simulation tells nothing of {_named(*left_out[0])}")
    compared = torch.ones(len(batch), dtype=torch.bool)
    for (quantizer, call), found in integers.items():
        function, name = level_function(proxies[quantizer]), _named(quantizer, call)
        expected = captured.calls[quantizer][call].result
        if found.numel() != expected.numel():
            raise VerificationError(
                f"hls4ml gives {name} the shape {tuple(found.shape)}, not {tuple(expected.shape)}"
            )
        # hls4ml may flatten behind the quantizer that PyTorch flattens before.
        found = found.reshape(expected.shape)
        values = function.dequantize((found + function.zero_point).float())
        z = bounds.get((quantizer, call))
        z = None if z is None else Bounded(z.value[compared], z.error[compared])
        own = sums.get((quantizer, call))
        wrong = different(expected, values)
        counts = QuantizerReport(name, ACTIVATION)
        compare_in_layer(
            counts,
            function,
            expected[compared],
            values[compared],
            z,
            first_image=0,
            explained=None if own is None else _on_lines(own[compared], z, wrong[compared]),
        )
        report.layers.append(
            LayerReport(name, expected[compared].numel(), counts.layer_mismatches, counts.excused)
        )
        if counts.layer_mismatches == 0:
            compared &= ~wrong.reshape(len(batch), -1).any(1)
    expected = captured.output.double()
    output = output.reshape(expected.shape)
    beyond = _beyond(output, expected, output_bound)
    report.output_mismatches += int(beyond[compared].sum())
    report.images += len(batch)
    report.max_difference = max(report.max_difference, float((output - expected).abs().max()))
    classes = (tensor.reshape(len(batch), -1).argmax(1) for tensor in (output, expected))
    report.same_class += int((next(classes) == next(classes)).sum())


def _named(quantizer: str, call: int) -> str:
    """As in ``verify_export``'s report."""
    return f"{quantizer}#{call}" if call else quantizer


def _on_lines(sums: Tensor, z: Bounded | None, wrong: Tensor) -> Tensor | None:
    """Those of the wrong units whose sum lies where PyTorch's pre-activation does.

    None where that is not known: behind a pool the simulation may have other units.
    """
    if z is None or sums.numel() != z.value.numel():
        return None
    values = sums.reshape(z.value.shape).double().numpy()
    interval = Interval.around(*(end.double().numpy() for end in outward(z)))
    lines, where = Lines(), np.nonzero(wrong.numpy())
    lines.add(values, interval)
    on_lines = np.zeros(values.shape, dtype=bool)
    of_wrong = Interval(interval.low[where], interval.high[where])
    on_lines[where] = lines.hold(values[where], where[1], of_wrong)
    return torch.from_numpy(on_lines)


def _beyond(output: Tensor, expected: Tensor, bound: Bounded | None) -> Tensor:
    """Which outputs differ by more than float32 rounding."""
    value, error = (expected, 0.0) if bound is None else (bound.value, bound.error)
    # The simulation does not round an integer times its scale, PyTorch does.
    return ~((output - value).abs() <= error + 2 * UNIT * value.abs())
