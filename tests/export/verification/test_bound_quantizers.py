"""Quantized constants are exact, and truncations of what is nearest to one integer."""

from __future__ import annotations

import brevitas.nn as qnn
import onnx
import pytest
import torch
from brevitas.core.bit_width import BitWidthConst
from brevitas.core.function_wrapper import CeilSte, FloorSte, RoundSte, RoundToZeroSte
from brevitas.core.quant import TruncIntQuant
from brevitas.quant import (
    Int8ActPerTensorFloat,
    Int8BiasPerTensorFloatInternalScaling,
    Int8WeightPerChannelFloat,
    Int32Bias,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from brevitas_ftprop.export.graph_edits import GENERAL
from brevitas_ftprop.export.quantizers import quantizer_proxies
from brevitas_ftprop.export.verification.bound_quantizers import trunc
from brevitas_ftprop.export.verification.bounds import evaluate
from brevitas_ftprop.export.verification.capture import capture
from brevitas_ftprop.export.verification.differences import beyond_bound, integers
from brevitas_ftprop.export.verification.reference import Reference
from brevitas_ftprop.export.verification.rounding import Bounded, UnboundedError
from brevitas_ftprop.levels import level_function

ROUNDINGS = {"ROUND": RoundSte, "FLOOR": FloorSte, "CEIL": CeilSte, "DOWN": RoundToZeroSte}


@pytest.mark.parametrize("bias_quant", [Int32Bias, Int8BiasPerTensorFloatInternalScaling])
@pytest.mark.parametrize("layer", ["conv", "linear"])
def test_a_layer_with_a_quantized_bias_has_a_bound(layer, bias_quant):
    torch.manual_seed(0)
    options = {"bias": True, "bias_quant": bias_quant, "weight_quant": Int8WeightPerChannelFloat}
    biased = qnn.QuantConv2d(3, 4, 3, **options)
    if layer == "linear":
        biased = nn.Sequential(nn.Flatten(), qnn.QuantLinear(75, 4, **options))
    image = qnn.QuantIdentity(Int8ActPerTensorFloat, return_quant_tensor=True)
    model = nn.Sequential(image, biased, qnn.QuantIdentity(Int8ActPerTensorFloat))
    x = torch.randn(1, 3, 5, 5)
    model(x)
    model.eval()
    proxies = {n: p for n, p in quantizer_proxies(model).items() if not n.endswith("bias_quant")}
    captured = capture(model, proxies, x)
    reference = Reference(model, x, {"0.act_quant", "2.act_quant"})
    bounds, _ = reference.bounds(x, captured)
    assert reference.unbounded == []
    z = bounds["2.act_quant", 0]
    (call,) = captured.calls["2.act_quant"]
    difference = (call.source.double() - z.value).abs()
    assert bool((difference <= z.error).all())
    assert 0 < float(z.error.max()) < 1e-3 * float(z.value.abs().max())


class Twice(nn.Module):
    """A sum of two quantized tensors of one scale."""

    def __init__(self):
        super().__init__()
        self.quant = qnn.QuantIdentity(Int8ActPerTensorFloat)

    def forward(self, x):
        return self.quant(x) + self.quant(1 - x)


def test_a_sum_whose_scale_has_moved_lies_within_the_bound():
    model = Twice()
    x = torch.linspace(-3, 3, 1000)[None]
    model(x)
    model.eval()
    (name, proxy), *_ = quantizer_proxies(model).items()
    function = level_function(proxy)
    captured = capture(model, {name: proxy}, x)
    one, other = (integers(function, call.result) for call in captured.calls[name])
    moved = function.scale * (one + other)
    reference = Reference(model, x, {name})
    in_place, bound = (reference.bounds(x, captured, of)[1] for of in (None, {name: function}))
    assert bool(beyond_bound(moved, in_place).any())
    assert not bool(beyond_bound(moved, bound).any())
    assert float(bound.error.max()) <= 4 * 2.0**-24 * float(x.abs().max())


def bound_of(x: Bounded, scale: float, step: float, kept: int, mode: str, signed: bool) -> Bounded:
    exact = [
        Bounded(torch.tensor(value, dtype=torch.float64), torch.zeros((), dtype=torch.float64))
        for value in (scale, 0.0, 8.0, scale * step, float(kept))
    ]
    return trunc({"rounding_mode": mode, "signed": signed, "narrow": 0}, x, *exact)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(ROUNDINGS)),
    st.integers(0, 4),
    st.booleans(),
    st.sampled_from([0.25, 0.1, 0.3]),
    st.integers(0, 2**32 - 1),
)
def test_a_truncation_within_rounding_is_what_brevitas_gives(mode, shift, signed, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    integers = torch.randint(-128 * signed, 256 >> signed, (64,), generator=generator).float()
    scale32 = torch.tensor(scale)
    x = integers * scale32
    brevitas = TruncIntQuant(ROUNDINGS[mode](), BitWidthConst(8 - shift))
    expected, *_ = brevitas(x, scale32, torch.tensor(0.0), torch.tensor(8.0), signed)
    error = torch.full((64,), 0.4 * scale, dtype=torch.float64)
    found = bound_of(
        Bounded(x.double(), error), float(scale32), 2.0**shift, 8 - shift, mode, signed
    )
    assert bool(((expected.double() - found.value).abs() <= found.error).all())
    assert bool((found.error <= 2**-22 * found.value.abs()).all())


def test_a_truncation_of_what_may_be_two_integers_has_no_bound():
    x = Bounded(*torch.tensor([[0.9], [0.1]], dtype=torch.float64))
    assert float(bound_of(x, 0.5, 1.0, 8, "FLOOR", True).value) == 1.0
    wider = Bounded(x.value, torch.tensor([0.3], dtype=torch.float64))
    with pytest.raises(UnboundedError, match="between two integers"):
        bound_of(wider, 0.5, 1.0, 8, "FLOOR", True)


def test_a_computed_value_of_a_quantizer_node_has_no_bound():
    node = onnx.helper.make_node(
        "Quant", ["x", "s", "s", "s"], ["y"], domain=GENERAL, signed=1, narrow=0,
        rounding_mode="ROUND",
    )  # fmt: skip
    graph = onnx.helper.make_model(onnx.helper.make_graph([node], "one", [], []))
    exact = {"x": torch.tensor([0.3, 1.5]), "s": torch.tensor(2.0)}
    # Two bits, a scale and a zero-point of 2: round(0.3/2 + 2) = 2 is clamped to 1.
    assert evaluate(graph, exact)["y"].value.tolist() == [-2.0, -2.0]
    assert "y" not in evaluate(graph, {"s": exact["s"]})
