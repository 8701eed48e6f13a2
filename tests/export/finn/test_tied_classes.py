"""A class may be another than PyTorch's where the integers of both are equal, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import brevitas.nn as qnn
import numpy as np
import pytest
import torch
from brevitas.quant import SignedBinaryActPerTensorConst, SignedBinaryWeightPerTensorConst
from torch import nn

from brevitas_ftprop.export.accelerator_io import checked_io
from brevitas_ftprop.export.finn.environment import finn_environment
from brevitas_ftprop.export.finn.finn_report import StepReport
from brevitas_ftprop.export.qonnx import qonnx_graph

pytest.importorskip("finn", reason="needs the extra 'finn'")

FEATURES, IMAGES = 40, 100


@cache
def network() -> tuple[nn.Module, torch.Tensor]:
    """Signs and a layer of weights ±0.1, whose sums float32 rounds; images of signs."""
    torch.manual_seed(0)
    last = qnn.QuantLinear(FEATURES, 4, bias=False, weight_quant=SignedBinaryWeightPerTensorConst)
    signs = qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst)
    return nn.Sequential(signs, last).eval(), torch.randint(0, 2, (IMAGES, FEATURES)) * 2.0 - 1


def compared(change: Callable[[np.ndarray], np.ndarray]) -> StepReport:
    """What the oracle says of the graph whose last layer has changed weights."""
    model, images = network()
    with finn_environment():
        from qonnx.core.modelwrapper import ModelWrapper

        from brevitas_ftprop.export.finn.flow_steps import STEPS
        from brevitas_ftprop.export.finn.oracle import Oracle

        io = checked_io("float", "class", None, None, None, images[:1])
        graph = ModelWrapper(qonnx_graph(model, images[:1], dynamo=False))
        for name in ("forms", "finn"):
            graph = STEPS[name](graph, io, None)
        (layer,) = graph.get_nodes_by_op_type("MatMul")
        graph.set_initializer(layer.input[1], change(graph.get_initializer(layer.input[1])))
        oracle, report = Oracle(model, images), StepReport("finn", "", 0, [], 0.0)
        for index, image in enumerate(images.split(1)):
            oracle.compare(report, index, graph, image.numpy())
    return report


def integer_logits(change: Callable[[np.ndarray], np.ndarray] = np.copy) -> np.ndarray:
    """The sums of signs, of changed weights, by hand."""
    model, images = network()
    return images.numpy() @ change(np.sign(model[1].weight.detach().numpy()).T)


def below_pytorchs(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images where PyTorch's logit of a class is below its largest, and how far in integers."""
    model, images = network()
    with torch.no_grad():
        # One by one: float32 sums of a batch may round otherwise.
        logits = torch.cat([model(image) for image in images.split(1)]).numpy()
    rows, integers = np.arange(IMAGES), integer_logits()
    differ = np.flatnonzero(logits[rows, found] < logits.max(1))
    steps = integers[rows, logits.argmax(1)] - integers[rows, found]
    return differ, steps[differ]


def test_a_class_with_the_same_integer_as_pytorchs_is_excused_and_counted():
    # FINN takes the first class of the largest integer, PyTorch one that its rounding has lifted.
    found = integer_logits().argmax(1)
    differ, steps = below_pytorchs(found)
    assert len(differ) > 1
    assert not steps.any()
    report = compared(np.copy)
    assert (report.wrong_outputs, report.first_difference) == (0, None)
    assert report.excused == len(differ)
    listed = [(unit.quantizer, unit.image, unit.found) for unit in report.excused_units]
    assert listed == [("output", index, found[index]) for index in differ]


def test_a_class_whose_integer_is_a_step_below_pytorchs_is_wrong():
    def one_sign(weights: np.ndarray) -> np.ndarray:
        weights = weights.copy()
        weights[0, 0] *= -1
        return weights

    _, steps = below_pytorchs(integer_logits(one_sign).argmax(1))
    # Sums of as many signs are all even, or all odd.
    assert set(steps) == {0, 2}
    report = compared(one_sign)
    assert (report.wrong_outputs, report.first_difference) == ((steps == 2).sum(), "output")
    assert report.excused == (steps == 0).sum()
