"""``torch.compile`` with one graph for the whole model trains as the model itself does.

``fullgraph=True`` raises at a graph break, so every compiled pass here also counts them: none.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from brevitas.core.scaling import ConstScaling, ParameterFromRuntimeStatsScaling
from brevitas.export.inference import quant_inference_mode
from brevitas.nn import (
    QuantConv2d,
    QuantIdentity,
    QuantLinear,
    QuantReLU,
    TruncAvgPool2d,
)
from brevitas.quant import Int16Bias
from brevitas.quant_tensor import IntQuantTensor
from brevitas_examples.bnn_pynq.models import model_with_cfg
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from brevitas_ftprop import Monitor, quant, swap_quantizers
from brevitas_ftprop.core import TargetPropStaircaseQuant, TargetPropTernaryQuant
from brevitas_ftprop.kernels import ENVIRONMENT_VARIABLE
from brevitas_ftprop.kernels.backends.compiled import COMPILABLE, SINCE
from brevitas_ftprop.models import ConvNet4, ConvNet8, QuantAlexNet, QuantResNet18

pytestmark = pytest.mark.skipif(not COMPILABLE, reason=f"compiling quantizers needs torch {SINCE}")

# The compiler's graph runs the very operations of the model in the same order; inductor fuses them,
# which changes sums of float32.
TOLERANCES = {"aot_eager": {"rtol": 0, "atol": 0}, "inductor": {"rtol": 1e-4, "atol": 1e-5}}

ACTS = [name for name in quant.__all__ if "Act" in name]
WEIGHTS = [name for name in quant.__all__ if "Weight" in name]
OURS: dict[str, tuple[Callable[..., nn.Module], int]] = {
    "alexnet": (lambda **o: QuantAlexNet(10, 64, channels=(4, 4, 4, 4, 4), fc=8, **o), 64),
    "resnet18": (lambda **o: QuantResNet18(10, "cifar", base=8, **o), 32),
    "convnet4": (lambda **o: ConvNet4(10, 16, channels=(4, 4), fc=8, **o), 16),
    "convnet8": (lambda **o: ConvNet8(10, 32, channels=(4, 4, 4, 4, 4, 4, 8), **o), 32),
}


def train(model: nn.Module, forward: Callable[[Tensor], Tensor], images: Tensor) -> list[dict]:
    """Losses, gradients, parameters and buffers of a step of SGD for each batch of images."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    steps = []
    for step, batch in enumerate(images):
        torch.manual_seed(step)
        optimizer.zero_grad()
        outputs = forward(batch).flatten(1)
        loss = nn.functional.cross_entropy(outputs, torch.arange(len(batch)) % outputs.shape[1])
        loss.backward()
        figures = {"loss": loss.detach(), **model.state_dict(), **dict(model.named_buffers())}
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                figures[f"gradient of {name}"] = parameter.grad
        steps.append({name: value.clone() for name, value in figures.items()})
        optimizer.step()
    return steps


def assert_compiles(
    model: nn.Module, images: Tensor, *, training: bool = True, backend: str = "aot_eager"
) -> int:
    """Compare the model's training with a compiled copy's; returns how often that was compiled."""
    torch._dynamo.reset()
    model.train(training)
    copied = copy.deepcopy(model)
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(copied, fullgraph=True, backend=counter)
    expected = train(model, model, images)
    for ours, plain in zip(train(copied, compiled, images), expected, strict=True):
        torch.testing.assert_close(ours, plain, **TOLERANCES[backend])
    return counter.frame_count


def random_images(size: int, *, steps: int = 2, channels: int = 3) -> Tensor:
    return torch.rand(steps, 2, channels, size, size) - 0.5


def act_options(name: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if "PerChannel" in name:
        options["per_channel_broadcastable_shape"] = (1, 3, 1, 1)
        options["scaling_stats_permute_dims"] = (1, 0, 2, 3)
    if ("Const" in name and "Staircase" not in name) or "Init" in name or "Binary" in name:
        options |= {"max_val": 0.7, "min_val": -0.7}
    elif "Staircase" not in name:
        options["collect_stats_steps"] = 4
    return options


# One of each step and kind of scale in every run: of some, eight graphs are compiled.
QUICK = {
    "TargetPropSignedBinaryActPerTensorFloat",
    "TargetPropSignedTernaryActPerTensorConst",
    "TargetPropStaircase3ActPerTensorFixedPoint",
    "TargetPropShiftedUint8ActPerTensorFloat",
    "TargetPropUint8ActPerChannelFloat",
    "TargetPropInt8WeightPerChannelFloat",
    "TargetPropShiftedUint8WeightPerTensorFloat",
    "TargetPropSignedBinaryWeightPerTensorConst",
    "TargetPropSignedTernaryWeightPerTensorConst",
}


def others_slow(names: list[str]) -> list[Any]:
    return [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in names]


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize("name", others_slow(ACTS))
@pytest.mark.cover(1)
def test_an_activation_trains_compiled_as_uncompiled_through_all_of_its_statistics(name, training):
    act = QuantIdentity(act_quant=getattr(quant, name), **act_options(name))
    model = nn.Sequential(nn.Conv2d(3, 3, 3), act, nn.Conv2d(3, 2, 3))
    # Brevitas tells the first step, those that collect, the one that ends it and the rest apart.
    phases = 4 if training and "collect_stats_steps" in act_options(name) else 1
    images = random_images(8, steps=8 if phases > 1 else 2)
    assert assert_compiles(model, images, training=training) == phases


@pytest.mark.parametrize("name", others_slow(WEIGHTS))
def test_a_weight_trains_compiled_as_uncompiled(name):
    conv = QuantConv2d(3, 2, 3, weight_quant=getattr(quant, name))
    assert assert_compiles(nn.Sequential(conv), random_images(8)) == 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("convnet4", {"act": "sign", "weighting": "mean"}),
        ("convnet4", {"act": "staircase3", "form": "hardware", "staircase": "sum"}),
        pytest.param(
            "convnet4",
            {"act": "int2", "weight_bits": 4, "weight_scale": "channel", "rule": "hinge"},
            marks=pytest.mark.slow,
        ),
        pytest.param("resnet18", {"act": "sign"}, marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_a_model_trains_compiled_as_uncompiled(name, options):
    build, size = OURS[name]
    assert assert_compiles(build(**options), random_images(size)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("form", ["paper", "hardware"])
@pytest.mark.parametrize("act", ["sign", "staircase3", "int2"])
@pytest.mark.parametrize("name", OURS)
def test_every_model_trains_compiled_as_uncompiled(name, act, form):
    build, size = OURS[name]
    assert assert_compiles(build(act=act, form=form), random_images(size)) == 1


@pytest.mark.parametrize("name", ["convnet4", pytest.param("alexnet", marks=pytest.mark.slow)])
def test_a_model_evaluates_compiled_as_uncompiled(name):
    build, size = OURS[name]
    assert assert_compiles(build(), random_images(size, steps=1), training=False) == 1


@pytest.mark.parametrize(
    "weights", [pytest.param(True, marks=pytest.mark.slow), False], ids=["weights", "activations"]
)
@pytest.mark.parametrize(
    "name",
    [
        "tfc_1w1a",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("tfc_1w2a", "tfc_2w2a")),
    ],
)
@pytest.mark.cover(1)
def test_a_converted_tfc_of_brevitas_trains_compiled_as_uncompiled(name, weights):
    model, _ = model_with_cfg(name, False)
    swap_quantizers(model, weights=weights)
    assert assert_compiles(model, random_images(28, channels=1)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize("weights", [True, False], ids=["weights", "activations"])
@pytest.mark.parametrize("name", ["cnv_1w1a", "cnv_1w2a", "cnv_2w2a", "resnet18_4w4a"])
def test_brevitas_converted_larger_examples_train_compiled_as_uncompiled(name, weights, training):
    model, _ = model_with_cfg(name, False)
    swap_quantizers(model, weights=weights)
    # ResNet-18 learns its scales from statistics, whose first step is a graph of its own.
    phases = 2 if name == "resnet18_4w4a" and training else 1
    assert assert_compiles(model, random_images(32), training=training) == phases


class QuantizedSums(nn.Module):
    """What hands on quantized tensors: a residual sum, truncated pool and quantized bias."""

    def __init__(self) -> None:
        super().__init__()
        options = {"bit_width": 4, "collect_stats_steps": 1, "return_quant_tensor": True}
        self.act1 = QuantReLU(**options)
        self.conv = QuantConv2d(3, 3, 3, padding=1)
        self.act2 = QuantReLU(**options)
        self.pool = TruncAvgPool2d(kernel_size=4)
        self.fc = QuantLinear(12, 2, bias=True, bias_quant=Int16Bias)

    def forward(self, images: Tensor) -> Tensor:
        x = self.act1(images)
        total = self.act2(self.conv(x)) + self.act2(x)
        return self.fc(self.pool(total).flatten(1))


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize("weights", [True, False], ids=["weights", "activations"])
@pytest.mark.cover(1)
def test_quantized_tensors_between_layers_train_compiled_as_uncompiled(weights, training):
    model = QuantizedSums()
    swap_quantizers(model, weights=weights)
    for _ in range(3):
        model(random_images(8, steps=1)[0])
    assert assert_compiles(model, random_images(8), training=training) == 1


class Sum(nn.Module):
    def __init__(self, ranges: tuple[float, float]) -> None:
        super().__init__()
        self.acts = nn.ModuleList(
            QuantIdentity(
                act_quant=quant.TargetPropInt8ActPerTensorConst,
                min_val=-limit,
                max_val=limit,
                return_quant_tensor=True,
            )
            for limit in ranges
        )

    def forward(self, x: Tensor) -> Any:
        return self.acts[0](x) + self.acts[1](x)


def test_a_compiled_model_gives_quantized_tensors_where_it_does_uncompiled():
    model, x = Sum((1.0, 1.0)), torch.rand(2, 3)
    plain, compiled = model(x), torch.compile(model, fullgraph=True, backend="aot_eager")(x)
    assert isinstance(compiled, IntQuantTensor)
    assert (compiled.signed, compiled.training) == (plain.signed, plain.training)
    for field in ("value", "scale", "zero_point", "bit_width"):
        torch.testing.assert_close(getattr(compiled, field), getattr(plain, field), rtol=0, atol=0)


def test_a_compiled_sum_of_different_scales_is_refused_as_it_is_uncompiled():
    model, x = Sum((1.0, 2.0)).eval(), torch.rand(2, 3)
    for forward in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        with pytest.raises(RuntimeError, match="Scaling factors are different"):
            forward(x)


def test_a_delay_counts_the_compiled_steps():
    act_quant = quant.TargetPropInt8ActPerTensorConst
    act = QuantIdentity(act_quant=act_quant, min_val=-1.0, max_val=1.0, quant_delay_steps=3)
    assert assert_compiles(nn.Sequential(nn.Conv2d(3, 2, 3), act), random_images(8, steps=6)) <= 4


def test_more_steps_than_the_compiler_allows_graphs_collect_statistics_in_one_more_graph():
    act = QuantIdentity(act_quant=quant.TargetPropInt8ActPerTensorFloat)
    steps = torch._dynamo.config.recompile_limit + 4
    assert (
        assert_compiles(nn.Sequential(nn.Conv2d(3, 2, 3), act), random_images(8, steps=steps)) == 2
    )
    (scaling,) = (m for m in act.modules() if isinstance(m, ParameterFromRuntimeStatsScaling))
    assert scaling.counter == steps


def test_what_brevitas_compiles_is_watched_follows_a_new_rule_and_infers(monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()
    act_quant = quant.TargetPropSignedBinaryActPerTensorConst
    weight_quant = quant.TargetPropInt8WeightPerTensorFloat
    plain = nn.Sequential(
        QuantIdentity(act_quant=act_quant, max_val=0.7),
        QuantLinear(8, 3, bias=False, weight_quant=weight_quant),
    )
    compiled, images = copy.deepcopy(plain), torch.randn(2, 6, 8)
    results, watched = [], []
    for model in (plain, compiled):
        for proxy in (model[0].act_quant, model[1].weight_quant):
            if model is compiled:
                proxy.compile_quant()
            proxy.rule = "hinge"
        with Monitor(model, every=1) as monitor:
            # The names of buffers are others in what was compiled.
            found = [value for step in train(model, model, images) for value in learned(step)]
            watched.append(monitor.step()["layers"])
        with torch.no_grad(), quant_inference_mode(model.eval(), compile=model is compiled):
            # The first pass fills the caches, the second uses them.
            results.append([*found, model(images[0]), model(images[0])])
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert watched[0] == watched[1]


def learned(figures: dict[str, Tensor]) -> list[Tensor]:
    return [v for name, v in figures.items() if name == "loss" or name.startswith("gradient of ")]


@pytest.mark.parametrize(
    "quantizer",
    [
        TargetPropTernaryQuant(ConstScaling(1.0), 0.7, rule="hinge"),
        TargetPropStaircaseQuant(3, rule="hinge", max_val=0.75),
    ],
    ids=lambda quantizer: type(quantizer).__name__,
)
def test_a_quantizer_with_numbers_compiles_for_any_shape(quantizer):
    torch._dynamo.reset()
    compiled = torch.compile(quantizer, fullgraph=True, backend="aot_eager", dynamic=True)
    for rows in (5, 7):
        x = torch.randn(rows, 4)
        found = []
        for forward in (quantizer, compiled):
            leaf = x.clone().requires_grad_()
            y, *_ = forward(leaf)
            y.square().sum().backward()
            found.append([y.detach(), leaf.grad])
        torch.testing.assert_close(*found, rtol=0, atol=0)


@pytest.mark.slow
def test_inductor_trains_a_quantizer_as_uncompiled():
    act = QuantIdentity(act_quant=quant.TargetPropSignedBinaryActPerTensorFloat, max_val=0.7)
    model = nn.Sequential(nn.Conv2d(3, 2, 3), act)
    assert assert_compiles(model, random_images(8), backend="inductor") == 1


@pytest.mark.slow
@pytest.mark.parametrize("form", ["paper", "hardware"])
@pytest.mark.parametrize("name", OURS)
def test_inductor_trains_every_model_as_uncompiled(name, form):
    build, size = OURS[name]
    assert assert_compiles(build(form=form), random_images(size), backend="inductor") == 1


@pytest.mark.parametrize("rule", ["saturated_ste", "soft_hinge", "hinge"])
@pytest.mark.parametrize("act", ["sign", "int2", "int2 compact", "staircase3 sum"])
@pytest.mark.cover(1)
def test_who_asks_for_compiled_gets_the_formulas_in_the_graph(act, rule, monkeypatch):
    kind, _, option = act.partition(" ")
    options = {"compact": {"saved": "compact"}, "sum": {"staircase": "sum"}}.get(option, {})
    act_quant, of_kind = {
        "sign": (quant.TargetPropSignedBinaryActPerTensorConst, {}),
        "int2": (
            quant.TargetPropUint8ActPerTensorFloat,
            {"bit_width": 2, "collect_stats_steps": 1},
        ),
        "staircase3": (quant.TargetPropStaircase3ActPerTensorConst, {}),
    }[kind]
    layer = QuantReLU if kind == "int2" else QuantIdentity
    model = nn.Sequential(
        nn.BatchNorm2d(3), layer(act_quant=act_quant, rule=rule, **of_kind, **options)
    )
    for _ in range(3):
        model(torch.randn(4, 3, 8, 8))
    x, grad = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    graphs, results = [], []

    def keep_graph(graph, example_inputs):
        graphs.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, example_inputs)

    for backend in ("auto", "compiled"):
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, backend)
        torch._dynamo.reset()
        copied = copy.deepcopy(model)
        leaf = x.clone().requires_grad_()
        y = torch.compile(copied, fullgraph=True, backend=keep_graph)(leaf)
        y.backward(grad)
        results.append([y.detach(), leaf.grad, *(each.grad for each in copied.parameters())])
    by_operator, by_formulas = [str(graph.code) for graph in graphs]
    assert "brevitas_ftprop.quantize" in by_operator
    assert "brevitas_ftprop.quantize" not in by_formulas
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)
