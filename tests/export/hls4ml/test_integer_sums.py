"""Graphs of integer sums compute what PyTorch does, run by QONNX's executor."""

from __future__ import annotations

import brevitas.nn as qnn
import numpy as np
import pytest
import torch
from brevitas.quant import Int8ActPerTensorFixedPoint, Int8WeightPerChannelFloat
from hypothesis import given, settings
from hypothesis import strategies as st
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes
from torch import Tensor, nn

from brevitas_ftprop.export import ExportError, export_qonnx
from brevitas_ftprop.export.hls4ml.compare_simulation import threshold_images
from brevitas_ftprop.export.hls4ml.hardware_graph import hardware_graph
from brevitas_ftprop.export.hls4ml.integer_layers import ENTERS
from brevitas_ftprop.export.hls4ml.integer_sums import IntegerSums
from brevitas_ftprop.export.hls4ml.threshold_quant import MultiThresholdToQuant
from brevitas_ftprop.export.node_attributes import note_of
from brevitas_ftprop.models.layers import Layers
from brevitas_ftprop.quant import (
    TargetPropInt8ActPerChannelFloat,
    TargetPropUint8ActPerTensorFixedPoint,
)
from tests.export.hls4ml.networks import Block

IMAGES = 12
# float32 rounding of a few products of a scale and an integer.
RTOL = 1e-6
EXACT = ("sign", "int2", "staircase3", "staircase5", "int4", "pool first", "map")

SLOW = ("int4", "staircase5", "residual")


def run(graph: ModelWrapper, images: Tensor) -> np.ndarray:
    outputs = [execute_onnx(graph, {"global_in": image[None].numpy()}) for image in images]
    return np.concatenate([output["global_out"] for output in outputs])


def run_hardware(graph: ModelWrapper, images: Tensor) -> Tensor:
    """Channels last and back."""
    return torch.from_numpy(run(graph, images.movedim(1, -1))).movedim(-1, 1)


def some_images(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Random ones, and ones at the thresholds of the input's quantizer."""
    first = next(name for name, _ in model.named_modules() if name.endswith("act_quant"))
    random = torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(1))
    return torch.cat([2 * random, threshold_images(model, first, shape, IMAGES)])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW))
        for name in [*EXACT, "free scales", "residual", "dense"]
    ],
)
def test_thresholds_on_sums_and_their_quantizers_compute_what_pytorch_does(name, exported):
    model, path, shape = exported(name)
    images = some_images(model, shape)
    with torch.no_grad():
        expected = model(images).numpy()
    integer = ModelWrapper(str(path)).transform(IntegerSums()).transform(InferShapes())
    for graph in (integer, integer.transform(MultiThresholdToQuant())):
        found = run(graph, images)
        if name in EXACT:
            np.testing.assert_array_equal(found, expected)
        else:
            np.testing.assert_allclose(found, expected, rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("name", ["residual", "map"])
def test_the_graph_for_hls4ml_computes_what_pytorch_does_channels_last(name, exported):
    model, path, shape = exported(name)
    images = some_images(model, shape)[::3]
    with torch.no_grad():
        expected = model(images)
    found = run_hardware(hardware_graph(ModelWrapper(str(path))), images)
    # A mean of 9 pixels is rounded.
    torch.testing.assert_close(found, expected, rtol=RTOL if name == "residual" else 0, atol=0)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_sums_that_are_flattened_keep_the_scale_of_their_channel(bias, norm, tmp_path):
    torch.manual_seed(0)
    conv = qnn.QuantConv2d(4, 4, 3, bias=bias, weight_quant=Int8WeightPerChannelFloat)
    tail = [nn.BatchNorm1d(16)] if norm and not bias else []
    model = nn.Sequential(image(), conv if bias else layer(), nn.Flatten(), *tail)
    for _ in range(2):
        model(torch.randn(8, 4, 4, 4))
    path = export_qonnx(
        model.eval(), torch.zeros(1, 4, 4, 4), tmp_path / "model.onnx", dynamo=False
    )
    images = some_images(model, (4, 4, 4))[:4]
    with torch.no_grad():
        expected = model(images)
    found = run_hardware(hardware_graph(ModelWrapper(str(path))), images)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_quantizer_that_is_no_fixed_point_type_is_left_to_software(exported):
    model, path, shape = exported("small")
    images = torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(images)
        scale = float(model.image.act_quant.scale())
        integers = torch.round(model.image(model.norm(images)) / scale)
    graph = hardware_graph(ModelWrapper(str(path)))
    assert note_of(graph.graph.node[0], ENTERS) is not None
    assert run_hardware(graph, integers).equal(expected)


@settings(max_examples=5, deadline=None)
@given(
    act=st.sampled_from(["sign", "staircase3", "int2", "int4"]),
    bits=st.integers(2, 8),
    weight_bits=st.sampled_from([1, 2, 4]),
    weight_scale=st.sampled_from(["tensor", "channel"]),
    size=st.integers(3, 6),
    stride=st.integers(1, 2),
    leaving=st.integers(2, 4),
    seed=st.integers(0, 99),
)
def test_small_residual_networks_of_any_kind_compute_what_pytorch_does(
    tmp_path_factory, act, bits, weight_bits, weight_scale, size, stride, leaving, seed
):
    torch.manual_seed(seed)
    layers = Layers(
        act=act, form="hardware", weight_bits=weight_bits, weight_scale=weight_scale, rule="ste"
    )
    block = Block(layers, 2, leaving, stride, bits)
    pool = nn.MaxPool2d(3, 2, padding=1, ceil_mode=bool(seed % 2))
    start = [layers.input_quantizer(), layers.conv(3, 2, 3, padding=1), layers.norm(2)]
    model = nn.Sequential(*start, layers.activation(), pool, block, nn.AdaptiveAvgPool2d(1))
    shape = (3, size, size + 1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(-1.3, 1.3)
                module.bias.normal_(0, 0.3)
        for _ in range(2):
            model(torch.randn(8, *shape))
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    export_qonnx(model.eval(), torch.zeros(1, *shape), path, dynamo=False)
    images = some_images(model, shape)[:: IMAGES // 2]
    with torch.no_grad():
        expected = model(images)
    found = run_hardware(hardware_graph(ModelWrapper(str(path))), images)
    torch.testing.assert_close(found, expected, rtol=RTOL, atol=RTOL)


def test_sums_are_integers_and_annotated_with_what_they_can_reach(exported):
    _, path, _ = exported("staircase5")
    graph = ModelWrapper(str(path)).transform(IntegerSums())
    sums = {n.name: n.output[0] for n in graph.graph.node if n.op_type in ("Conv", "MatMul")}
    assert list(sums) == ["features_conv0", "features_conv1", "classifier_fc0", "classifier_fc1"]
    assert graph.get_tensor_datatype(sums["features_conv0"]).is_fixed_point()
    assert graph.get_tensor_datatype(sums["features_conv1"]).is_integer()
    for node in graph.graph.node:
        if node.op_type == "MultiThreshold":
            thresholds = graph.get_initializer(node.input[1])
            unit = 2.0**-5 if node.name == "features_act0" else 1.0
            finite = thresholds[np.isfinite(thresholds)] / unit
            np.testing.assert_array_equal(finite, np.round(finite))


def test_the_graph_that_is_transformed_stays_as_it_was(exported):
    _, path, _ = exported("sign")
    graph = ModelWrapper(str(path))
    before = graph.model.SerializeToString(deterministic=True)
    graph.transform(IntegerSums())
    assert graph.model.SerializeToString(deterministic=True) == before


class Residual(nn.Module):
    """The sum of two layers' own sums, or of one behind a batch norm and their input."""

    def __init__(self, *, normed: bool = False) -> None:
        super().__init__()
        self.image = image()
        self.first = layer(padding=1)
        self.second = nn.BatchNorm2d(4) if normed else layer(padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.image(x)
        return self.first(x) + self.second(x)


def image() -> nn.Module:
    return qnn.QuantIdentity(act_quant=Int8ActPerTensorFixedPoint)


def act() -> nn.Module:
    return qnn.QuantIdentity(act_quant=TargetPropUint8ActPerTensorFixedPoint, bit_width=2)


def layer(**options) -> nn.Module:
    return qnn.QuantConv2d(4, 4, 3, bias=False, weight_bit_width=4, **options)


def channel_act() -> nn.Module:
    return qnn.QuantIdentity(
        act_quant=TargetPropInt8ActPerChannelFloat,
        bit_width=4,
        per_channel_broadcastable_shape=(1, 4, 1, 1),
        scaling_stats_permute_dims=(1, 0, 2, 3),
    )


UNFIT = {
    "no quantized input": (
        lambda: [layer(), act(), nn.Flatten()],
        "0 reads the image, which is not quantized",
    ),
    "unequal scales": (
        lambda: [Residual()],
        r"adds integers of different scales: \S+ of 0\.first and \S+ of 0\.second",
    ),
    "unquantized summand": (
        lambda: [Residual(normed=True)],
        r"adds the result of \w+, which is not quantized",
    ),
    "average of a norm": (
        lambda: [image(), layer(), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1)],
        "averages the result of BatchNormalization_0, which is not quantized",
    ),
    "uncounted padding": (
        lambda: [image(), nn.AvgPool2d(2, padding=1, count_include_pad=False)],
        "has padding that it does not count",
    ),
    "cut windows": (
        lambda: [image(), nn.AvgPool2d(3, 2, ceil_mode=True)],
        "has ceil_mode, and windows that are cut",
    ),
    "dilated pooling": (lambda: [image(), nn.MaxPool2d(2, dilation=2)], "has a dilation"),
    "float weights": (
        lambda: [image(), nn.Conv2d(4, 4, 3, bias=False), act()],
        "has float weights: quantize them",
    ),
    "grouped": (lambda: [image(), layer(groups=2), act()], "1 has 2 groups for 4 → 4 channels"),
    "batch norm in between": (
        lambda: [image(), nn.BatchNorm2d(4), layer(), act()],
        "2 reads the result of BatchNormalization_0, which is not quantized",
    ),
    "scales per channel": (
        lambda: [image(), layer(), channel_act(), layer()],
        "2.act_quant has one scale for each channel",
    ),
    "softmax": (
        lambda: [image(), layer(), nn.Flatten(), nn.Softmax(1)],
        r"\(Softmax\) has no exact form",
    ),
    "relu output": (lambda: [image(), layer(), nn.ReLU()], "Relu behind 1 is not a scale"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_model_that_does_not_fit_is_refused_by_the_name_of_the_layer(name, tmp_path):
    build, message = UNFIT[name]
    model = nn.Sequential(*build())
    for _ in range(2):
        model(torch.randn(4, 4, 8, 8))
    path = export_qonnx(model, torch.zeros(1, 4, 8, 8), tmp_path / "model.onnx", dynamo=False)
    with pytest.raises(ExportError, match=message):
        ModelWrapper(str(path)).transform(IntegerSums())


def test_a_falling_batch_norm_behind_norm_and_pooling_is_refused(tmp_path):
    norm = nn.BatchNorm2d(4)
    nn.init.constant_(norm.weight, -1.0)
    model = nn.Sequential(image(), layer(), nn.BatchNorm2d(4), nn.MaxPool2d(2), norm, act())
    for _ in range(2):
        model(torch.randn(4, 4, 8, 8))
    path = export_qonnx(model, torch.zeros(1, 4, 8, 8), tmp_path / "model.onnx", dynamo=False)
    with pytest.raises(ExportError, match="behind 1 has negative factors and follows a max pool"):
        ModelWrapper(str(path)).transform(IntegerSums())


def test_sums_beyond_what_float32_holds_are_refused(tmp_path):
    model = nn.Sequential(image(), qnn.QuantLinear(4000, 2, bias=False))
    model(torch.randn(4, 4000))
    path = export_qonnx(model, torch.zeros(1, 4000), tmp_path / "model.onnx", dynamo=False)
    with pytest.raises(ExportError, match=r"1 has sums from .* more than the 2"):
        ModelWrapper(str(path)).transform(IntegerSums())


def test_more_levels_than_can_be_compared_pair_by_pair_are_refused(tmp_path):
    layers = [qnn.QuantLinear(4, 2, bias=False), qnn.QuantReLU(bit_width=16)]
    model = nn.Sequential(qnn.QuantIdentity(Int8ActPerTensorFixedPoint), *layers)
    for _ in range(2):
        model(torch.randn(8, 4))
    path = export_qonnx(model.eval(), torch.zeros(1, 4), tmp_path / "model.onnx", dynamo=False)
    with pytest.raises(ExportError, match=r"2\.act_quant has 65536 levels.* bit_width=12 or less"):
        ModelWrapper(str(path)).transform(IntegerSums())
