"""A network with every kind of quantizer, and what is compared before and after a conversion."""

import torch
from brevitas.core.function_wrapper import TensorClamp
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU, TruncAvgPool2d
from brevitas.proxy.quant_proxy import QuantProxyFromInjector
from brevitas.quant import (
    Int8ActPerTensorFloat,
    Int8Bias,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFloat,
    SignedBinaryActPerTensorConst,
    SignedBinaryWeightPerTensorConst,
    Uint8ActPerTensorFloat,
)
from torch import nn

from brevitas_ftprop import swap_quantizers
from brevitas_ftprop.levels import tensor_quant_of
from brevitas_ftprop.proxy import TargetPropActQuantProxy, TargetPropWeightQuantProxy

TARGET_PROP = (TargetPropActQuantProxy, TargetPropWeightQuantProxy)


class Mixed(nn.Module):
    """Every kind of layer and quantizer: statistics, binary, learned, shared, bias, trunc, none."""

    def __init__(self, delay=0):
        super().__init__()
        self.image = QuantIdentity(
            act_quant=Int8ActPerTensorFloat,
            bit_width=5,
            collect_stats_steps=4,
            return_quant_tensor=True,
        )
        self.conv = QuantConv2d(
            3,
            6,
            3,
            weight_quant=Int8WeightPerChannelFloat,
            weight_bit_width=3,
            bias=True,
            bias_quant=Int8Bias,
        )
        self.norm = nn.BatchNorm2d(6)
        self.relu = QuantReLU(
            act_quant=Uint8ActPerTensorFloat,
            bit_width=2,
            collect_stats_steps=6,
            quant_delay_steps=delay,
            return_quant_tensor=True,
        )
        self.pool = TruncAvgPool2d(2, bit_width=4, float_to_int_impl_type="floor")
        self.binary = QuantConv2d(
            6, 6, 2, bias=False, weight_quant=SignedBinaryWeightPerTensorConst
        )
        self.shared = QuantIdentity(
            act_quant=SignedBinaryActPerTensorConst, max_val=0.5, min_val=-0.5
        )
        self.again = QuantIdentity(act_quant=self.shared.act_quant)
        self.plain = nn.Conv2d(6, 6, 1)
        self.head = QuantLinear(
            24,
            5,
            bias=True,
            weight_quant=Int8WeightPerTensorFloat,
            weight_scaling_impl_type="parameter",
            weight_scaling_init=0.1,
            weight_bit_width=4,
            output_quant=Int8ActPerTensorFloat,
            output_bit_width=6,
        )

    def forward(self, x):
        x = self.relu(self.norm(self.conv(self.image(x))))
        x = self.shared(self.binary(self.pool(x)))
        x = self.again(self.plain(x))
        return self.head(x.flatten(1))


def batch(index, dtype=torch.float32, size=3):
    generator = torch.Generator().manual_seed(100 + index)
    return torch.randn(size, 3, 8, 8, generator=generator).to(dtype)


def mixed(delay=0, warm=3, dtype=torch.float32):
    torch.manual_seed(21)
    model = Mixed(delay).to(dtype)
    for index in range(warm):
        model(batch(index, dtype))
    return model


def train(model, optimizer, first, count, dtype=torch.float32):
    outputs = []
    for index in range(first, first + count):
        optimizer.zero_grad()
        y = model(batch(index, dtype))
        outputs.append(y.detach())
        y.square().sum().backward()
        optimizer.step()
    return outputs


def adam(model):
    return torch.optim.Adam(model.parameters(), lr=1e-3)


def equals_stock(name, proxy):
    """Whether stock's clamp saturates the gradient of this quantizer (handbook, section 3)."""
    quantizer = tensor_quant_of(proxy)
    clamp = getattr(getattr(quantizer, "int_quant", quantizer), "tensor_clamp_impl", None)
    return isinstance(clamp, TensorClamp)


def swap_to_stock_rules(model):
    """The rule that the handbook's table gives for each quantizer."""
    swap_quantizers(model, "saturated_ste", weights=True, where=equals_stock)
    swap_quantizers(
        model, "ste", weights=True, where=lambda name, proxy: not isinstance(proxy, TARGET_PROP)
    )
    return model


def snapshot(model):
    """Identities, types and values of everything in a model."""
    return {
        "modules": [(name, id(m), type(m), m.training) for name, m in model.named_modules()],
        "parameters": [(name, id(p), p.dtype) for name, p in model.named_parameters()],
        "buffers": [(name, id(b)) for name, b in model.named_buffers()],
        "keys": list(model.state_dict()),
        "injectors": [
            id(m.quant_injector) for m in model.modules() if isinstance(m, QuantProxyFromInjector)
        ],
    }


def values(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def same_values(one, other):
    assert list(one) == list(other)
    assert all(torch.equal(one[key], other[key]) for key in one)


def proxies(model, kind=QuantProxyFromInjector):
    return [m for m in model.modules() if isinstance(m, kind) and m.is_quant_enabled]
