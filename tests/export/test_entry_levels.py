"""The first quantizer's thresholds on integers give what PyTorch gives, for each of them."""

from __future__ import annotations

import brevitas.nn as qnn
import numpy as np
import pytest
import torch
from brevitas.quant import (
    Int8ActPerTensorFloat,
    SignedBinaryActPerTensorConst,
    SignedTernaryActPerTensorConst,
    Uint8ActPerTensorFloat,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from qonnx.core.modelwrapper import ModelWrapper
from torch import Tensor, nn

from brevitas_ftprop.export.accelerator_io import FORMULAS, IMAGES, AcceleratorIO, checked_io
from brevitas_ftprop.export.entry_levels import entry_path, with_thresholds
from brevitas_ftprop.export.errors import ExportError
from brevitas_ftprop.export.qonnx import qonnx_graph
from brevitas_ftprop.levels import level_function

QUANTIZERS = {
    "sign": lambda: qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst),
    "ternary": lambda: qnn.QuantIdentity(act_quant=SignedTernaryActPerTensorConst),
    "int8": lambda: qnn.QuantIdentity(act_quant=Int8ActPerTensorFloat),
    "int3": lambda: qnn.QuantIdentity(act_quant=Int8ActPerTensorFloat, bit_width=3),
    "relu4": lambda: qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=4),
}
CHANNELS, SIZE = 3, 16


class Affine(nn.Module):
    def __init__(self, factors: Tensor, shifts: Tensor) -> None:
        super().__init__()
        self.register_buffer("factors", factors)
        self.register_buffer("shifts", shifts)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factors - self.shifts


def by_thresholds(io: AcceleratorIO, proxy, integers: Tensor) -> np.ndarray:
    """What a MultiThreshold gives with these thresholds, written out."""
    assert io.thresholds is not None
    thresholds = torch.from_numpy(io.thresholds).reshape(1, len(io.thresholds), -1)
    reached = (integers.flatten(2)[..., None] >= thresholds[:, :, None, :]).sum(-1)
    levels = torch.tensor(level_function(proxy).level_values)
    return levels[reached].reshape(integers.shape).numpy()


def all_integers(io: AcceleratorIO) -> Tensor:
    """Every value that enters, in every channel, in an order of its own in each."""
    generator = torch.Generator().manual_seed(0)
    count = len(io.values)
    rows = [io.values[torch.randperm(count, generator=generator)] for _ in range(CHANNELS)]
    return torch.stack(rows).repeat(1, 256 // count + 1)[:, :256].reshape(1, CHANNELS, SIZE, SIZE)


numbers = st.floats(-4, 4, width=32)
factors = st.one_of(st.floats(0, 8, width=32), st.sampled_from([0.0, 1.0, 2.0, 1e-3]))


@given(
    images=st.sampled_from([kind for kind in IMAGES if kind != "float"]),
    formula=st.sampled_from(list(FORMULAS)),
    means=st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3),
    stds=st.lists(st.floats(0.0625, 1, width=32), min_size=3, max_size=3),
    is_normalized=st.booleans(),
    slopes=st.lists(factors, min_size=3, max_size=3),
    shifts=st.lists(numbers, min_size=3, max_size=3),
    norm=st.booleans(),
    name=st.sampled_from(list(QUANTIZERS)),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_every_integer_gives_in_every_channel_what_pytorch_gives(
    images, formula, means, stds, is_normalized, slopes, shifts, norm, name, seed
):
    torch.manual_seed(seed)
    options = (formula, means, stds) if is_normalized else (formula, None, None)
    told = options if images == "uint8" else (None, None, None)
    example = torch.rand(1, CHANNELS, SIZE, SIZE)
    io = checked_io(images, "logits", *told, example)
    quantizer = QUANTIZERS[name]()
    shape = (1, CHANNELS, 1, 1)
    layers = [Affine(torch.tensor(slopes).reshape(shape), torch.tensor(shifts).reshape(shape))]
    model = nn.Sequential(*layers, *[nn.BatchNorm2d(CHANNELS)] * norm, quantizer)
    model.train()(io.seen(all_integers(io)))
    graph = qonnx_graph(model.eval(), example, dynamo=False)
    io = with_thresholds(io, model, example, graph)
    expected = model(io.seen(all_integers(io))).detach()
    function = level_function(quantizer.act_quant)
    integers = torch.round(expected / function.scale + function.zero_point).numpy()
    found = by_thresholds(io, quantizer.act_quant, all_integers(io))
    np.testing.assert_array_equal(found, integers)


def thresholds_of(*layers: nn.Module, shape=(1, CHANNELS, SIZE, SIZE), **options) -> np.ndarray:
    model, example = nn.Sequential(*layers).eval(), torch.rand(shape)
    io = AcceleratorIO("uint8", **options)
    graph = qonnx_graph(model, example, dynamo=False)
    thresholds = with_thresholds(io, model, example, graph).thresholds
    assert thresholds is not None
    return thresholds


class Function(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.forward = function


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: -x, r"falls where it rises: in channel 0 it gives 1 for 0, but -1 for 1"),
        (lambda x: (x - 9) ** 2 - 5, r"it gives 1 for 6, but -1 for 7"),
        (lambda x: torch.log(x), r"0\.act_quant|is not finite for some entering integers"),
        (
            lambda x: x - torch.arange(SIZE).float(),
            "differs with the position in it",
        ),
    ],
    ids=["negative", "parabola", "logarithm", "position"],
)
def test_what_is_no_rising_function_of_the_pixel_is_refused_by_name(function, reason):
    with pytest.raises(ExportError, match=reason):
        thresholds_of(Function(function), QUANTIZERS["sign"]())


def test_rising_functions_of_any_form_become_thresholds():
    thresholds = thresholds_of(
        Function(lambda x: torch.tanh(torch.sqrt(x + 1)) - 0.96), nn.MaxPool2d(2), sign()
    )
    seen = torch.tanh(torch.sqrt(torch.arange(256.0) + 1)) - 0.96
    assert thresholds.tolist() == [[float((seen >= 0).nonzero()[0])]]


def test_a_flattened_image_has_thresholds_of_features():
    shifts = torch.arange(12.0)
    found = thresholds_of(nn.Flatten(), Affine(torch.ones(12), shifts), sign(), shape=(1, 3, 2, 2))
    assert found[:, 0].tolist() == shifts.tolist()


def test_a_level_that_is_never_reached_has_a_threshold_beyond_all_integers():
    assert thresholds_of(Function(lambda x: x - 300), sign()).tolist() == [[256]]


def sign() -> nn.Module:
    return QUANTIZERS["sign"]()


@pytest.mark.parametrize("dynamo", [True, False])
def test_the_path_of_an_image_ends_at_its_first_quantizer(dynamo):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(), Affine(torch.ones(1), torch.ones(1)), sign())
    graph = ModelWrapper(qonnx_graph(model.eval(), torch.rand(1, 1, 4, 4), dynamo=dynamo))
    assert entry_path(graph)[-1].op_type == "BipolarQuant"


def test_an_image_that_is_read_twice_has_no_path():
    model = nn.Sequential(Function(lambda x: x + torch.relu(x)), sign())
    assert entry_path(ModelWrapper(qonnx_graph(model, torch.rand(1, 4), dynamo=False))) == []
