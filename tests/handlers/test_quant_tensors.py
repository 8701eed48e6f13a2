"""Torch-QCDQ of models that return quantized tensors, whose metadata the tracer has to return."""

import pytest
import torch
from brevitas.export import export_torch_qcdq
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8ActPerTensorFloat,
    Int8Bias,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFloat,
    Int16Bias,
    ShiftedUint8ActPerTensorFloat,
    ShiftedUint8WeightPerTensorFloat,
    Uint8ActPerTensorFloat,
)
from torch import nn

from brevitas_ftprop import quant
from tests.convert.mixed_network import swap_to_stock_rules

STOCK_ACTS = [
    Int8ActPerTensorFixedPoint,
    Int8ActPerTensorFloat,
    ShiftedUint8ActPerTensorFloat,
    Uint8ActPerTensorFloat,
]


class WeightOf(nn.Module):
    """Returns a layer's quantized weight beside the layer's result."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x), self.layer.quant_weight()


def images():
    return torch.randn(2, 4, 6, 6)


def prepared(model, x):
    for _ in range(3):
        model(x)
    return model.eval()


def layer(weight_quant, **options):
    conv = QuantConv2d(4, 3, 3, weight_quant=weight_quant, return_quant_tensor=True, **options)
    return nn.Sequential(QuantIdentity(Int8ActPerTensorFloat, return_quant_tensor=True), conv)


LAYERS = {
    "plain": lambda: layer(Int8WeightPerTensorFloat, bias=False),
    "per channel": lambda: layer(Int8WeightPerChannelFloat, bias=False, weight_bit_width=3),
    "bias": lambda: layer(Int8WeightPerTensorFloat, bias=True, bias_quant=Int8Bias),
    "wide bias": lambda: layer(Int8WeightPerTensorFloat, bias=True, bias_quant=Int16Bias),
    "output": lambda: layer(
        Int8WeightPerTensorFloat, output_quant=Int8ActPerTensorFloat, output_bit_width=5
    ),
    "returned weight": lambda: WeightOf(QuantConv2d(4, 3, 3, weight_bit_width=4)),
    "returned shifted weight": lambda: WeightOf(
        QuantConv2d(4, 3, 3, weight_quant=ShiftedUint8WeightPerTensorFloat)
    ),
}


def traced(model, x):
    """The fields of all that an export returns."""
    with torch.no_grad():
        fields = export_torch_qcdq(model, args=x)(x)
    return [field for part in fields for field in (part if isinstance(part, tuple) else (part,))]


def compare_with_stock(model, x):
    stock = traced(model, x)
    swap_to_stock_rules(model)
    ours = traced(model, x)
    assert len(ours) == len(stock) > 5
    for one, other in zip(ours, stock, strict=True):
        torch.testing.assert_close(one.float(), other.float(), rtol=1e-6, atol=1e-6)
        assert one.shape == other.shape


@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize("act_quant", STOCK_ACTS, ids=lambda q: q.__name__)
def test_a_converted_activation_exports_the_fields_that_stock_exports(act_quant, bits):
    x = images()
    act = QuantIdentity(act_quant, bit_width=bits, return_quant_tensor=True)
    compare_with_stock(prepared(act, x), x)


@pytest.mark.parametrize("name", LAYERS)
def test_a_converted_layer_exports_the_fields_that_stock_exports(name):
    x = images()
    compare_with_stock(prepared(LAYERS[name](), x), x)


@pytest.mark.parametrize("name", [name for name in quant.__all__ if "PerChannel" not in name])
def test_every_ready_made_quantizer_exports_the_quantized_tensor_that_eager_mode_gives(name):
    x = torch.randn(5, 8)
    if "Act" in name:
        options = {} if "Staircase" in name else {"min_val": -1.0, "max_val": 1.0}
        model = QuantIdentity(getattr(quant, name), return_quant_tensor=True, **options)
    else:
        model = WeightOf(QuantLinear(8, 4, False, weight_quant=getattr(quant, name)))
    prepared(model, x)
    with torch.no_grad():
        eager = model(x)
    fields = eager if "Act" in name else (eager[0], *eager[1])
    exported = traced(model, x)
    assert len(exported) == len(fields)
    for one, other in zip(exported, fields, strict=True):
        torch.testing.assert_close(one.float(), other.float(), rtol=1e-6, atol=1e-6)


def test_an_export_leaves_the_handlers_metadata_to_the_next_one():
    x = images()
    model = prepared(QuantIdentity(Int8ActPerTensorFloat, return_quant_tensor=True), x)
    swap_to_stock_rules(model)
    first, second = traced(model, x), traced(model, x)
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
