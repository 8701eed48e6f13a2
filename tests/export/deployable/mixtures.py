"""Small models of anything that Brevitas builds, sound and unsound, drawn at random."""

from __future__ import annotations

import random
from collections.abc import Callable

import brevitas.nn as qnn
import torch
from brevitas import quant as stock
from brevitas.core.function_wrapper import FloorSte
from brevitas.quant.experimental.float import Fp8e4m3ActPerTensorFloat
from brevitas_examples.common.generative.quantizers import Int8DynamicActPerTensorFloat
from torch import Tensor, nn

from brevitas_ftprop import quant
from tests.export.deployable.architectures import ACTIVATIONS

FEATURES = 4

WEIGHTS = {
    "int8": {"weight_quant": stock.Int8WeightPerTensorFixedPoint, "weight_bit_width": 4},
    "channel": {"weight_quant": stock.Int8WeightPerChannelFloat, "weight_bit_width": 4},
    "binary": {"weight_quant": stock.SignedBinaryWeightPerTensorConst},
    "ours": {"weight_quant": quant.TargetPropInt8WeightPerTensorFloat, "weight_bit_width": 2},
    "wide": {"weight_quant": stock.Int8WeightPerTensorFloat, "weight_bit_width": 12},
    "shifted": {"weight_quant": stock.ShiftedUint8WeightPerTensorFloat},
    "norm": {"weight_quant": stock.Int8WeightNormL2PerChannelFixedPoint},
    "a2q": {"weight_quant": stock.Int8AccumulatorAwareWeightQuant},
    "none": {"weight_quant": None},
}
BIASES = {
    "internal": {"bias_quant": stock.Int8BiasPerTensorFixedPointInternalScaling},
    "external": {"bias_quant": stock.Int8Bias},
    "floor": {
        "bias_quant": stock.Int8BiasPerTensorFixedPointInternalScaling,
        "bias_float_to_int_impl": FloorSte,
    },
}


class Kept(nn.Module):
    """A quantizer and a layer together, so that the layer knows what its input was scaled by."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        act = stock.Int8ActPerTensorFixedPoint
        self.act = qnn.QuantIdentity(act, bit_width=4, return_quant_tensor=True)
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.act(x))


class Function(nn.Module):
    """Layers in another order than one behind the other."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.function = nn.ModuleList(layers), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.layers)


def _layer(rng: random.Random, x: Tensor) -> nn.Module:
    weights = WEIGHTS[rng.choice([*WEIGHTS, *["int8", "channel", "binary", "ours"] * 4])]
    bias = rng.choice(("no", "no", "float", *BIASES) if rng.random() < 0.4 else ("no",))
    options = weights | BIASES.get(bias, {}) | {"bias": bias != "no"}
    if x.dim() == 2:
        layer: nn.Module = qnn.QuantLinear(x.shape[1], FEATURES, **options)
    else:
        conv = {3: qnn.QuantConv1d, 4: qnn.QuantConv2d}[x.dim()]
        layer = conv(
            x.shape[1], FEATURES, rng.choice((1, 3)), padding=rng.choice((0, 1)), **options
        )
    return Kept(layer) if rng.random() < 0.25 or bias == "external" else layer


def _pool(rng: random.Random, x: Tensor) -> nn.Module:
    if x.dim() == 3:
        return rng.choice((nn.MaxPool1d, nn.AvgPool1d))(2)
    return rng.choice(
        (
            lambda: nn.MaxPool2d(2),
            lambda: nn.MaxPool2d(3, 2, padding=1),
            lambda: nn.AvgPool2d(2),
            lambda: nn.AvgPool2d(3, 2, padding=rng.choice((0, 1)), ceil_mode=True),
            lambda: nn.AdaptiveAvgPool2d(1),
            lambda: Kept(
                qnn.TruncAvgPool2d(
                    2,
                    bit_width=4,
                    float_to_int_impl_type=rng.choice(("ROUND", "FLOOR", "CEIL", "ROUND_TO_ZERO")),
                    return_quant_tensor=False,
                )
            ),
        )
    )()


def _act(rng: random.Random, x: Tensor) -> nn.Module:
    if rng.random() < 0.12:
        return rng.choice(
            (
                lambda: qnn.QuantIdentity(Fp8e4m3ActPerTensorFloat),
                lambda: qnn.QuantIdentity(Int8DynamicActPerTensorFloat),
                lambda: qnn.QuantIdentity(quant_delay_steps=100),
                lambda: qnn.QuantIdentity(bit_width=16),
                lambda: qnn.QuantSigmoid(bit_width=4),
            )
        )()
    return ACTIVATIONS[rng.choice(list(ACTIVATIONS))]()


def _norm(rng: random.Random, x: Tensor) -> nn.Module:
    kinds = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}
    return kinds[x.dim()](x.shape[1])


def _odd(rng: random.Random, x: Tensor) -> nn.Module:
    def first(x: Tensor, main: nn.Module, other: nn.Module, act: nn.Module) -> Tensor:
        _unused, used = act(other(x)), act(main(x))
        return used

    def twice(x: Tensor, layer: nn.Module, act: nn.Module) -> Tensor:
        return layer(act(layer(act(x)))) if x.shape[1] == FEATURES else layer(act(x))

    act = ACTIVATIONS[rng.choice(("relu2", "relu4", "signed4"))]
    return rng.choice(
        (
            lambda: Function(first, _layer(rng, x), _layer(rng, x), act()),
            lambda: Function(twice, _layer(rng, x), act()),
            lambda: Function(lambda x, a, b: a(x) + b(x), act(), act()),
            lambda: Function(lambda x: torch.cat([x, x], 1)),
            lambda: Function(lambda x, a: a(x) * x, act()),
            lambda: Function(lambda x: x * float(x.abs().max())),
            lambda: Function(lambda x: torch.from_numpy(x.numpy()) * 2),
            lambda: nn.Softmax(1),
            lambda: nn.Dropout(),
            lambda: nn.Flatten(),
        )
    )()


def _end(rng: random.Random, x: Tensor) -> nn.Module:
    if rng.random() < 0.85:
        return nn.Flatten() if x.dim() > 2 and rng.random() < 0.9 else nn.Identity()
    return rng.choice(
        (
            lambda: qnn.QuantIdentity(return_quant_tensor=True),
            lambda: Function(lambda x: (x, x)),
            lambda: Function(lambda x: x.flatten(1).argmax(1)),
            lambda: Function(lambda x: x.sum()),
            lambda: Function(lambda x: torch.zeros(x.shape[0], 2)),
        )
    )()


class Recurrent(nn.Module):
    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.act, self.cell = qnn.QuantIdentity(), cell
        self.last = qnn.QuantLinear(3, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.cell(self.act(x).transpose(0, 1))[0][-1])


def draw_mixture(seed: int) -> tuple[nn.Module, Tensor]:
    """A model in evaluation mode, and an input for it; the same for a seed."""
    rng = random.Random(f"mixture {seed}")
    torch.manual_seed(seed)
    if rng.random() < 0.04:
        cell = rng.choice((qnn.QuantLSTM, qnn.QuantRNN))(4, 3)
        return _settled([Recurrent(cell)], torch.randn(1, 5, 4))
    rank = rng.choice((2, 2, 3, 4, 4, 4))
    example = torch.randn(rng.choice((1, 1, 1, 2)), 3, *(6,) * (rank - 2))
    layers, x = [], torch.randn(4, *example.shape[1:])
    steps = [_act] * (rng.random() < 0.9)
    for _ in range(rng.choice((1, 1, 2, 2, 3))):
        steps.append(_layer)
        steps += [_norm] * (rng.random() < 0.4) + [_act] * (rng.random() < 0.8)
        steps += [_pool] * (rng.random() < 0.35) + [_odd] * (rng.random() < 0.1)
    for step in (*steps, _end):
        if step is _pool and x.dim() == 2:
            continue
        try:
            layer = step(rng, x)
            with torch.no_grad():
                y = layer(x)
        except (AssertionError, RuntimeError, ValueError):
            continue  # It does not fit there.
        layers.append(layer)
        x = y.value if hasattr(y, "value") else y
        if not isinstance(x, Tensor) or x.dim() < 2:
            break
    model, example = _settled(layers, example)
    if rng.random() < 0.03:
        with torch.no_grad():
            next(iter(model.parameters())).fill_(torch.nan)
    return model, example


def _settled(layers: list[nn.Module], example: Tensor) -> tuple[nn.Module, Tensor]:
    model = nn.Sequential(*layers)
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(4, *example.shape[1:]))
    return model.eval(), example
