"""Small networks of many shapes: drawn at random, or with one odd thing in them on purpose."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import brevitas.nn as qnn
import torch
from brevitas.core.function_wrapper import CeilSte, FloorSte
from brevitas.quant import (
    Int8ActPerTensorFloat,
    Int8BiasPerTensorFloatInternalScaling,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFloat,
    Int32Bias,
    ShiftedUint8ActPerTensorFloat,
    SignedBinaryActPerTensorConst,
    SignedTernaryActPerTensorConst,
    Uint8ActPerTensorFixedPoint,
    Uint8ActPerTensorFloat,
)
from torch import Tensor, nn

from brevitas_ftprop import quant
from brevitas_ftprop.models.layers import Layers


def _identity(act_quant: type, **options: Any) -> Callable[[], nn.Module]:
    return lambda: qnn.QuantIdentity(act_quant=act_quant, **options)


def _relu(act_quant: type, **options: Any) -> Callable[[], nn.Module]:
    return lambda: qnn.QuantReLU(act_quant=act_quant, **options)


def _hardware(act: str) -> Callable[[], nn.Module]:
    return Layers(act=act, form="hardware").activation


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    **{act: _hardware(act) for act in ("sign", "staircase3", "staircase5", "int2", "int4")},
    "stock sign": _identity(SignedBinaryActPerTensorConst),
    "stock ternary": _identity(SignedTernaryActPerTensorConst),
    "ternary": _identity(quant.TargetPropSignedTernaryActPerTensorConst),
    "relu2": _relu(Uint8ActPerTensorFloat, bit_width=2),
    "relu4": _relu(Uint8ActPerTensorFixedPoint, bit_width=4),
    "signed4": _identity(Int8ActPerTensorFloat, bit_width=4),
    # Odd ones.
    "sign of 0.1": _identity(SignedBinaryActPerTensorConst, scaling_init=0.1),
    "paper's staircase": _identity(quant.TargetPropStaircase3ActPerTensorConst),
    "ceil": _relu(quant.TargetPropUint8ActPerTensorFloat, bit_width=2, float_to_int_impl=CeilSte),
    "stock ceil": _relu(Uint8ActPerTensorFloat, bit_width=2, float_to_int_impl=CeilSte),
    "stock floor": _relu(Uint8ActPerTensorFloat, bit_width=3, float_to_int_impl=FloorSte),
    "zero-point": _identity(ShiftedUint8ActPerTensorFloat, bit_width=4),
    "relu8": _relu(Uint8ActPerTensorFloat, bit_width=8),
    "relu10": _relu(Uint8ActPerTensorFloat, bit_width=10),
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
}
PLAIN_ACTIVATIONS = tuple(ACTIVATIONS)[:11]


class Affine(nn.Module):
    """What a network computes of the image before its first quantizer."""

    def forward(self, x: Tensor) -> Tensor:
        return 2.0 * x - 1.0


INPUTS: dict[str, Callable[[], nn.Module]] = {
    "int8": lambda: Layers(form="hardware").input_quantizer(),
    "int8 float scale": _identity(Int8ActPerTensorFloat),
    "int4": _identity(Int8ActPerTensorFloat, bit_width=4),
    "none": nn.Identity,
    "affine": lambda: nn.Sequential(Affine(), Layers(form="hardware").input_quantizer()),
    "norm": lambda: nn.Sequential(nn.BatchNorm2d(3), ACTIVATIONS["signed4"]()),
    "norm of a signal": lambda: nn.Sequential(nn.BatchNorm1d(3), ACTIVATIONS["signed4"]()),
}


BIASES = {"": None, "int32": Int32Bias, "own scale": Int8BiasPerTensorFloatInternalScaling}


@dataclass(frozen=True)
class Weights:
    """Bits and scale of a layer's weights; ``"stock"`` scales are not powers of two."""

    bits: int = 2
    scale: str = "tensor"

    def options(self) -> dict[str, Any]:
        if self.scale.startswith("stock"):
            per_tensor = self.scale == "stock tensor"
            weight_quant = Int8WeightPerTensorFloat if per_tensor else Int8WeightPerChannelFloat
            return {"weight_quant": weight_quant, "weight_bit_width": self.bits}
        layers = Layers(form="hardware", weight_bits=self.bits)  # pyright: ignore
        return layers._weights(is_outer=False, scale=self.scale)


@dataclass(frozen=True)
class Conv:
    channels: int = 4
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    weights: Weights = Weights()
    norm: bool = True
    act: str = "sign"
    pool: str = ""  # "before" or "after" the activation
    pool_kernel: int = 2
    pool_padding: int = 0
    pool_ceil: bool = False
    average: bool = False
    bias: bool = False
    dilation: int = 1
    groups: int = 1
    negative_norm: bool = False
    minus: bool = False  # pads with -1


@dataclass(frozen=True)
class Residual:
    act: str = "int2"
    weights: Weights = Weights()
    stride: int = 1
    widen: bool = False
    summands: str = "shared"  # "equal", "unequal", "float"
    bits: int = 4
    minus: bool = False


@dataclass(frozen=True)
class Branches:
    """Convolutions beside each other, joined.

    ``joined``: what quantizes them, ``"shared"`` is one for all, ``"behind"`` one that follows,
    ``"unequal"`` are two. ``shortcut``: what enters is joined too.
    """

    act: str = "int4"
    weights: Weights = Weights()
    joined: str = "shared"
    shortcut: bool = False
    kernels: tuple[int, ...] = (3, 1)


@dataclass(frozen=True)
class Copies:
    """Upsampling ``of`` a convolution's ``"sums"``, or of its quantizer's ``"integers"``."""

    act: str = "int4"
    weights: Weights = Weights()
    factor: float = 2
    of: str = "integers"


@dataclass(frozen=True)
class Depthwise:
    """A depthwise layer behind a quantizer with a scale for each channel."""

    weights: Weights = Weights()
    act: str = "int4"


Part = Conv | Residual | Branches | Copies | Depthwise


@dataclass(frozen=True)
class Dense:
    features: int = 6
    weights: Weights = Weights()
    norm: bool = True
    act: str = "sign"
    bias: bool = False


@dataclass(frozen=True)
class Architecture:
    """What a network is made of, in order.

    ``head``: ``"flatten"``, ``"average"`` (global), ``"average pool"`` (global, as AvgPool2d) or
    ``"none"`` for images of shape (features,). ``bias_quant``: of all biases. ``pool``: before the
    head, ``"idle"``, or a truncation of ``"windows"`` or ``"map"`` to ``kept`` bits, or
    ``"rounded"`` windows. ``flattened_act``: behind the flattening. ``is_signal``: of one
    dimension, and twice as long.
    """

    size: int = 8
    image: str = "int8"
    body: tuple[Part, ...] = (Conv(),)
    head: str = "flatten"
    dense: tuple[Dense, ...] = ()
    last: Weights = Weights(8)
    last_bias: bool = False
    last_act: str = ""
    bias_quant: str = ""
    pool: str = ""
    kept: int = 4
    flattened_act: str = ""
    is_signal: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image or a signal."""
        return (3, 2 * self.size) if self.is_signal else (3, self.size, self.size)

    @property
    def layers(self) -> dict[str, Any]:
        """The layers of as many dimensions."""
        return LAYERS[1 if self.is_signal else 2]

    def activation(self, name: str) -> nn.Module:
        """One that hands on its scale where a bias or a truncation asks for it."""
        act = ACTIVATIONS[name]()
        act.return_quant_tensor = self.bias_quant == "int32" or self.pool not in ("", "idle")
        return act


LAYERS: dict[int, dict[str, Any]] = {
    dimensions: {
        "conv": getattr(qnn, f"QuantConv{dimensions}d"),
        **{
            name: getattr(nn, f"{name}{dimensions}d")
            for name in ("BatchNorm", "MaxPool", "AvgPool", "AdaptiveAvgPool")
        },
    }
    for dimensions in (1, 2)
}


class Joined(nn.Module):
    """What branches give, joined."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Block(nn.Module):
    def __init__(
        self, spec: Residual, channels: int, act2: nn.Module, kinds: dict[str, Any]
    ) -> None:
        super().__init__()
        out = channels * (2 if spec.widen else 1)
        weights = spec.weights.options()

        def conv(kernel: int, stride: int, entering: int) -> nn.Module:
            padding = kernel // 2
            own = [nn.ConstantPad2d(padding, -1.0)] * (spec.minus and padding > 0)
            padding = 0 if own else padding
            layer = kinds["conv"](
                entering, out, kernel, stride=stride, padding=padding, bias=False, **weights
            )
            return nn.Sequential(*own, layer, kinds["BatchNorm"](out))

        self.conv1, self.conv2 = conv(3, spec.stride, channels), conv(3, 1, out)
        self.act1, self.act2 = ACTIVATIONS[spec.act](), act2
        changed = spec.stride > 1 or spec.widen
        self.shortcut = conv(1, spec.stride, channels) if changed else nn.Identity()
        layers = Layers(form="hardware")
        if spec.summands == "float":
            self.left = self.right = nn.Identity()
        else:
            self.left = layers.residual_quantizer(spec.bits)
            self.right = self.left
            if spec.summands != "shared":
                limit = 2.0 if spec.summands == "equal" else 8.0
                self.right = layers._fixed_point(
                    quant.TargetPropInt8ActPerTensorFixedPoint, spec.bits, limit
                )
        self.out = out

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.act1(self.conv1(x)))
        return self.act2(self.left(y) + self.right(self.shortcut(x)))


def build(spec: Architecture, seed: int = 0) -> nn.Module:
    """The network, its batch norms and scales as after some training, in evaluation mode."""
    torch.manual_seed(seed)
    channels, layers = 3, [INPUTS[spec.image]()]
    layers[0].return_quant_tensor = spec.bias_quant == "int32"
    bias_quant = BIASES[spec.bias_quant]
    for part in spec.body:
        made, channels = _made(part, channels, spec)
        layers += made
    if spec.pool:
        layers.append(_drawn_pool(spec, layers))
    if spec.head == "average":
        layers.append(spec.layers["AdaptiveAvgPool"](1))
    elif spec.head == "average pool":
        layers.append(spec.layers["AvgPool"](_shape_behind(spec, layers)[-1]))
    layers.append(nn.Flatten())
    width = _shape_behind(spec, layers)[1]
    layers += [spec.activation(spec.flattened_act)] if spec.flattened_act else []
    for part in spec.dense:
        options = part.weights.options() | {"bias_quant": bias_quant}
        layers.append(qnn.QuantLinear(width, part.features, part.bias, **options))
        layers += [nn.BatchNorm1d(part.features)] * part.norm + [spec.activation(part.act)]
        width = part.features
    options = spec.last.options() | {"bias_quant": bias_quant}
    layers.append(qnn.QuantLinear(width, 5, spec.last_bias, **options))
    if spec.last_act:
        layers.append(ACTIVATIONS[spec.last_act]())
    model = nn.Sequential(*layers)
    return settle(model, spec.shape)


def _shape_behind(spec: Architecture, layers: list[nn.Module]) -> torch.Size:
    with torch.no_grad():
        return nn.Sequential(*layers).eval()(torch.zeros(1, *spec.shape)).shape


def _made(part: Part, channels: int, spec: Architecture) -> tuple[list[nn.Module], int]:
    """The layers of a part, and how many channels they give."""
    if isinstance(part, Residual):
        block = Block(part, channels, spec.activation(part.act), spec.layers)
        return [block], block.out
    if isinstance(part, Conv):
        return _conv_layers(part, channels, spec), part.channels
    conv, weights = spec.layers["conv"], part.weights.options() | {"bias": False}
    act = spec.activation(part.act)
    if isinstance(part, Copies):
        up = nn.Upsample(scale_factor=part.factor)
        first = [up, act] if part.of == "sums" else [act, up]
        return [conv(channels, 4, 3, padding=1, **weights), *first], 4
    if isinstance(part, Depthwise):
        return [
            conv(channels, 4, 1, **weights),
            _scales(4, dimensions=len(spec.shape) - 1),
            conv(4, 4, 3, padding=1, groups=4, **weights),
            spec.layers["BatchNorm"](4),
            act,
        ], 4
    branches: list[nn.Module] = [
        conv(channels, 2 + index, kernel, padding=kernel // 2, **weights)
        for index, kernel in enumerate(part.kernels)
    ]
    width = sum(branch.out_channels for branch in branches)
    if part.joined != "behind":
        acts = [act, act if part.joined == "shared" else ACTIVATIONS["relu2"]()]
        branches = [nn.Sequential(*pair) for pair in zip(branches, acts, strict=True)]
    if part.shortcut:
        branches.append(act if part.joined == "shared" else nn.Identity())
        width += channels
    norm = [spec.layers["BatchNorm"](width), act] if part.joined == "behind" else []
    return [Joined(*branches), *norm], width


def _scales(channels: int, *, dimensions: int) -> nn.Module:
    order = (1, 0, *range(2, dimensions + 2))
    return qnn.QuantIdentity(
        quant.TargetPropInt8ActPerChannelFloat,
        bit_width=4,
        scaling_per_output_type="channel",
        per_channel_broadcastable_shape=(1, channels, *(1,) * dimensions),
        scaling_stats_permute_dims=order,
    )


def _drawn_pool(spec: Architecture, layers: list[nn.Module]) -> nn.Module:
    side = _shape_behind(spec, layers)[-1]
    if spec.pool == "idle":
        return spec.layers["AdaptiveAvgPool"](side)
    rounding = "ROUND" if spec.pool == "rounded" else "FLOOR"
    window = side if spec.pool == "map" else 2
    return qnn.TruncAvgPool2d(window, bit_width=spec.kept, float_to_int_impl_type=rounding)


def _conv_layers(part: Conv, channels: int, spec: Architecture) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.ConstantPad2d(part.padding, -1.0)] * part.minus
    layers += [
        spec.layers["conv"](
            channels,
            part.channels,
            part.kernel,
            stride=part.stride,
            padding=0 if part.minus else part.padding,
            dilation=part.dilation,
            groups=part.groups,
            bias=part.bias,
            bias_quant=BIASES[spec.bias_quant],
            **part.weights.options(),
        )
    ]
    if part.norm:
        norm = spec.layers["BatchNorm"](part.channels)
        if part.negative_norm:
            with torch.no_grad():
                norm.weight[::2] *= -1
        layers.append(norm)
    pool = spec.layers["AvgPool" if part.average else "MaxPool"](
        part.pool_kernel, 2, padding=part.pool_padding, ceil_mode=part.pool_ceil
    )
    act = spec.activation(part.act)
    layers += {"": [act], "before": [pool, act], "after": [act, pool]}[part.pool]
    return layers


def settle(model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Statistics collected and parameters off their start, on random data."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.bias.add_(0.3 * torch.randn(module.bias.shape, generator=generator))
                module.weight.mul_(1 + 0.3 * torch.rand(module.bias.shape, generator=generator))
        model.train()
        for _ in range(3):
            model(torch.randn(8, *shape, generator=generator))
    return model.eval()


def example(spec: Architecture) -> Tensor:
    return torch.randn(1, *spec.shape, generator=torch.Generator().manual_seed(2))


def draw(seed: int) -> Architecture:
    """A random network whose layers fit; about three in ten have something odd in them."""
    rng, others = random.Random(seed), random.Random(f"of others {seed}")
    of_image, of_copies = random.Random(f"image {seed}"), random.Random(f"copies {seed}")
    of_signs = random.Random(f"signs {seed}")
    while True:
        spec = _with_copies(_as_others_define(_drawn(rng), others), of_copies)
        if of_image.random() < 0.4:
            spec = replace(spec, image=of_image.choice(("affine", "affine", "norm", "none")))
        if spec.is_signal and spec.image == "norm":
            spec = replace(spec, image="norm of a signal")
        if of_signs.random() < 0.25:
            spec = _of_signs(spec, of_signs)
        try:
            build(spec)
        except (AssertionError, RuntimeError, ValueError):
            continue  # A map smaller than a window, or a scale that a layer does not hand on.
        return spec


def _drawn(rng: random.Random) -> Architecture:
    act = rng.choice(PLAIN_ACTIVATIONS)
    body: list[Part] = [_drawn_conv(rng, act)]
    for _ in range(rng.choice((0, 1, 1, 2))):
        act = rng.choice((act, rng.choice(PLAIN_ACTIVATIONS)))
        body.append(_drawn_conv(rng, act) if rng.random() < 0.65 else _drawn_residual(rng, act))
    dense = tuple(
        Dense(rng.choice((4, 6)), _drawn_weights(rng), rng.random() < 0.8, act, rng.random() < 0.3)
        for _ in range(rng.choice((0, 0, 1, 2)))
    )
    spec = Architecture(
        size=rng.choice((8, 8, 9, 12)),
        image=rng.choice(("int8", "int8", "int8 float scale", "int4")),
        body=tuple(body),
        head=rng.choice(("flatten", "flatten", "average", "average pool")),
        dense=dense,
        last=rng.choice(
            (Weights(8), Weights(4, "stock tensor"), Weights(4, "channel"), Weights(1))
        ),
        last_bias=rng.random() < 0.3,
        last_act=rng.choice(("", "", "", "signed4")),
    )
    return rng.choice(list(ODDITIES.values()))(spec, rng) if rng.random() < 0.3 else spec


def _as_others_define(spec: Architecture, rng: random.Random) -> Architecture:
    """With quantized biases, pools, and quantizers behind the flattening; half are as they were."""
    if rng.random() < 0.4:
        body = tuple(replace(p, bias=True) if isinstance(p, Conv) else p for p in spec.body)
        bias_quant, last_bias = rng.choice(("int32", "own scale")), rng.random() < 0.15
        spec = replace(spec, body=body, bias_quant=bias_quant, last_bias=last_bias)
    if rng.random() < 0.3:
        pool, kept = rng.choice(("idle", "windows", "windows", "map", "rounded")), rng.randint(2, 9)
        # Most truncate a quantizer's integers, and not those of another pool.
        last = spec.body[-1]
        if isinstance(last, Conv) and rng.random() < 0.95:
            last = replace(last, pool="")
        spec = replace(spec, body=(*spec.body[:-1], last), pool=pool, kept=kept)
    if rng.random() < 0.2:
        spec = replace(spec, flattened_act=rng.choice(PLAIN_ACTIVATIONS))
    return spec


def _with_copies(spec: Architecture, rng: random.Random) -> Architecture:
    """As a network on signals, and with joined branches, upsampling and scales of channels."""
    if rng.random() < 0.25:
        pool = spec.pool if spec.pool in ("", "idle") else ""
        spec = replace(spec, is_signal=True, pool=pool)
    if rng.random() < 0.35 and spec.bias_quant != "int32":
        act = rng.choice(("int2", "int4", "sign", "relu4", "signed4"))
        kind = rng.choice((Branches, Branches, Copies, Depthwise))
        options: dict[str, Any] = {
            Branches: {
                "joined": rng.choice(("shared", "shared", "behind", "behind", "unequal")),
                "shortcut": rng.random() < 0.4,
            },
            Copies: {"factor": rng.choice((2, 2, 3, 1.5)), "of": rng.choice(("integers", "sums"))},
            Depthwise: {},
        }[kind]
        part = kind(act=act, weights=_drawn_weights(rng), **options)
        place = rng.randint(1, len(spec.body))
        spec = replace(spec, body=(*spec.body[:place], part, *spec.body[place:]))
    return spec


def _of_signs(spec: Architecture, rng: random.Random) -> Architecture:
    """With signs, most weights of one bit, and convolutions that pad with 0, -1 or nothing."""

    def drawn(part: Any) -> Any:
        weights = Weights(1, rng.choice(("tensor", "channel")))
        changes = {"act": "sign", "weights": weights if rng.random() < 0.7 else part.weights}
        if isinstance(part, Residual):
            changes |= {"minus": rng.random() < 0.5 and not spec.is_signal, "summands": "shared"}
        elif isinstance(part, Conv) and rng.random() < 0.4:
            changes["padding"] = 0
        elif isinstance(part, Conv) and part.padding:
            changes["minus"] = rng.random() < 0.6 and not spec.is_signal
        return replace(part, **changes)

    image, *body = map(drawn, spec.body)
    # Before the first layer there is no sign.
    image = replace(image, minus=False)
    return replace(spec, body=(image, *body), dense=tuple(map(drawn, spec.dense)), pool="")


def _drawn_weights(rng: random.Random) -> Weights:
    scale = rng.choice(("tensor", "channel", "stock tensor", "stock channel"))
    return Weights(rng.choice((2, 4, 8) if scale.startswith("stock") else (1, 2, 4, 8)), scale)


def _drawn_conv(rng: random.Random, act: str) -> Conv:
    kernel = rng.choice((1, 2, 3, 3, 3, 5))
    pool_kernel = rng.choice((2, 2, 3))
    return Conv(
        channels=rng.choice((3, 4, 6)),
        kernel=kernel,
        stride=rng.choice((1, 1, 1, 2)),
        padding=rng.randint(0, kernel // 2),
        weights=_drawn_weights(rng),
        norm=rng.random() < 0.85,
        act=act,
        pool=rng.choice(("", "before", "after")),
        pool_kernel=pool_kernel,
        pool_padding=rng.choice((0, pool_kernel // 2)),
        bias=rng.random() < 0.2,
        negative_norm=rng.random() < 0.2,
    )


def _drawn_residual(rng: random.Random, act: str) -> Residual:
    return Residual(
        act=act,
        weights=_drawn_weights(rng),
        stride=rng.choice((1, 1, 2)),
        widen=rng.random() < 0.3,
        summands=rng.choice(("shared", "shared", "equal", "unequal", "float")),
        bits=rng.choice((2, 4, 8)),
    )


def _in_a_conv(**changes: Any) -> Callable[[Architecture, random.Random], Architecture]:
    """Change one convolution of a network."""

    def change(spec: Architecture, rng: random.Random) -> Architecture:
        index = rng.choice([i for i, part in enumerate(spec.body) if isinstance(part, Conv)])
        body = list(spec.body)
        body[index] = replace(body[index], **changes)
        return replace(spec, body=tuple(body))

    return change


ODDITIES: dict[str, Callable[[Architecture, random.Random], Architecture]] = {
    **{act: _in_a_conv(act=act) for act in tuple(ACTIVATIONS)[len(PLAIN_ACTIVATIONS) :]},
    "grouped": lambda spec, rng: replace(
        spec, body=(Conv(channels=4), Conv(channels=4, groups=2, padding=1), *spec.body)
    ),
    "depthwise": lambda spec, rng: replace(
        spec, body=(Conv(channels=4), Conv(channels=4, groups=4, padding=1), *spec.body)
    ),
    "dilated": _in_a_conv(kernel=3, dilation=2, padding=2),
    "average pool": _in_a_conv(pool="after", pool_kernel=2, pool_padding=0, average=True),
    "average before": _in_a_conv(pool="before", pool_kernel=2, pool_padding=0, average=True),
    "rounded up": _in_a_conv(pool="after", pool_kernel=2, pool_padding=0, pool_ceil=True),
    "float image": lambda spec, rng: replace(spec, image="none"),
    "signed result": lambda spec, rng: replace(spec, last_act="sign"),
}
