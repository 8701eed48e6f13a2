"""From a float network to one that FINN maps, in one call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from ..export.checks import check_batch, check_finite
from ..export.deployable import check_deployable
from ..export.quantizers import quantizer_proxies
from .choices import Choices
from .float_graph import float_graph
from .placement import Slot, place_quantizers
from .quant_modules import bits_of, describe, quant_module
from .quantize_report import Insertion, QuantizeReport, changes
from .ranges import find_ranges


def quantize_for_finn(
    model: nn.Module,
    example: Tensor,
    *,
    act: str = "int4",
    weight_bits: int = 4,
    rule: str = "soft_hinge",
    weight_rule: str = "ste",
    weight_scale: str = "channel",
    signed_bits: int | None = None,
    power_of_two: bool = False,
    quantize_output: bool = False,
    calibrate: Tensor | None = None,
    dynamo: bool = True,
) -> tuple[fx.GraphModule, QuantizeReport]:
    """Give a float network target-prop quantizers, so that FINN maps it as it is.

    ReLUs and clips become unsigned quantizers; what a sum reads passes one shared signed quantizer,
    and where a layer or an average reads something else than integers (the image, a batch norm's
    result, a sum) a signed one is inserted. The first and the last layer, and the quantizers beside
    them, have 8 bits. Weights, batch norms and biases are the float network's; a bias before a
    batch norm becomes part of it. What is left of the network is a ``torch.fx`` graph with the
    same names of layers. Scales are learned from the start that they are given here on.

    Args:
        model: float32 model on the CPU that ``torch.fx`` traces, with one input and one output; it
            is left as it is.
        example: float32 (N, …) as the model takes it.
        act: activations in place of ReLUs: ``"int2"`` … ``"int8"`` (unsigned, uniform),
            ``"sign"``, ``"staircase3"`` or ``"staircase5"``, whose thresholds are fixed.
        weight_bits: 1 to 8.
        rule: target rule of the activations.
        weight_rule: target rule of the weights.
        weight_scale: ``"channel"`` or ``"tensor"``; the last layer's is always per tensor.
        signed_bits: of the inserted quantizers between layers, 2 to 8; one more than the
            activations' if None.
        power_of_two: whether all scales are powers of two, so that sums are exact in float32.
        quantize_output: whether the logits pass a quantizer of 8 bits, so that an accelerator can
            give the class although the last layer has a bias.
        calibrate: float32 (N, …), real images, for the ranges that the quantizers start with;
            the example if None.
        dynamo: which exporter traces the result for the check.

    Returns:
        The quantized network, in the training mode of the float one, and a report with what each
        quantizer changes in the output for the example.

    Raises:
        TypeError: for something else than a float model and float32 tensors.
        ValueError: for unknown options (with the valid ones), models that cannot be traced (names
            the module), and all that ``check_deployable`` finds wrong with the result (names the
            layer, the reason and what to change).

    >>> float_model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> model, report = quantize_for_finn(float_model, torch.randn(9, 8), act="int2", dynamo=False)
    >>> for insertion in report:
    ...     print(insertion.name, insertion.why)
    input_1_quant integers of the input
    0 weights
    1 in place of ReLU
    2 weights

    References:
        Umuroglu et al., FINN, FPGA 2017, arXiv:1612.07119 (what a dataflow layer is); Brevitas,
        ``brevitas.graph.quantize`` (the same for other targets).
    """
    choices = Choices(
        act=act,
        weight_bits=weight_bits,
        rule=rule,
        weight_rule=weight_rule,
        weight_scale=weight_scale,
        signed_bits=signed_bits,
        power_of_two=power_of_two,
        quantize_output=quantize_output,
    )
    graph_model, places = quantized_graph(model, example, choices, calibrate=calibrate)
    warnings = _require_deployable(graph_model, example[:1], dynamo=dynamo)
    floats = {slot.name: module for slot, module in places}
    alone, together = changes(graph_model, floats, example)
    insertions = tuple(
        Insertion(slot.name, describe(graph_model.get_submodule(slot.name)), slot.why, change)
        for (slot, _), change in zip(places, alone, strict=True)
    )
    return graph_model.train(model.training), QuantizeReport(insertions, together, warnings)


def quantized_graph(
    model: nn.Module, example: Tensor, choices: Choices, *, calibrate: Tensor | None = None
) -> tuple[fx.GraphModule, list[tuple[Slot, nn.Module]]]:
    """What ``quantize_for_finn`` makes of a model, in evaluation mode, unchecked.

    Returns:
        The quantized network; the places of its quantizers, with the float modules that stood
        there.
    """
    _check_float(model)
    check_batch(example, name="example")
    batch = example if calibrate is None else calibrate
    check_batch(batch, name="calibrate")
    if batch.shape[1:] != example.shape[1:]:
        raise ValueError(
            f"calibrate has shape {tuple(batch.shape)}, but the example {tuple(example.shape)}"
        )
    graph_model = float_graph(model, example)
    slots = place_quantizers(graph_model, output=choices.quantize_output)
    if not any(slot.kind == "layer" for slot in slots):
        raise ValueError("the model has no convolution or linear layer to quantize")
    bits = {slot.name: found for slot in slots if (found := bits_of(slot, choices)) is not None}
    ranges = find_ranges(graph_model, batch, bits, power_of_two=choices.power_of_two)
    places = []
    for slot in slots:
        float_module = graph_model.get_submodule(slot.name)
        module = quant_module(slot, float_module, ranges.get(slot.name), choices)
        graph_model.add_submodule(slot.name, module.eval())
        places.append((slot, float_module))
    return graph_model, places


def _check_float(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a float torch.nn.Module, got {type(model).__name__}")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise TypeError(f"{name} is {tensor.dtype}: convert a copy with model.float()")
        if tensor.device.type != "cpu":
            raise ValueError(f"{name} is on {tensor.device}: move the model to the CPU first")
    check_finite(model)
    for name in quantizer_proxies(model):
        raise ValueError(
            f"{name} is a quantizer already: swap_quantizers gives those of a Brevitas model "
            "another rule, and check_deployable tells what it needs for FINN"
        )


def _require_deployable(
    graph_model: fx.GraphModule, example: Tensor, *, dynamo: bool
) -> tuple[str, ...]:
    """What the check warns of.

    Raises:
        ValueError: for its first error.
    """
    report = check_deployable(graph_model, example, "finn", dynamo=dynamo)
    if report.errors:
        first, others = report.errors[0], len(report.errors) - 1
        more = f" (and {others} more)" if others else ""
        raise ValueError(f"{first.layer}: {first.message}. {first.why} Fix: {first.fix}{more}")
    return tuple(map(str, report.warnings))
