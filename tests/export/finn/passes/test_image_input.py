"""An accelerator's input: pixels instead of floats, channels last instead of first."""

from __future__ import annotations

import numpy as np
import pytest

from brevitas_ftprop.export.finn.passes import ChannelsLastInput, QuantToThresholds, Uint8Input
from brevitas_ftprop.export.finn.passes.image_input import normalized

SHAPE = (1, 3, 16, 16)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def quantized_input(make_node, make_graph):
    nodes = [
        make_node("Quant", ["x", "s", "z", "b"], "q", signed=1, narrow=0, rounding_mode="ROUND"),
        make_node("Transpose", ["q"], "y", perm=[0, 2, 3, 1]),
    ]
    model = make_graph(nodes, SHAPE, s=1 / 32, z=0.0, b=8).transform(QuantToThresholds())
    # The scale is no part of what is moved here.
    multi_threshold, mul, transpose = model.graph.node
    transpose.input[0] = multi_threshold.output[0]
    model.graph.node.remove(mul)
    return model


def pixels() -> np.ndarray:
    """Every pixel value in every channel."""
    return np.arange(256, dtype=np.float32).reshape(1, 1, 16, 16).repeat(3, axis=1)


def test_every_pixel_value_gives_the_integer_of_its_normalized_value(quantized_input, execute):
    expected = execute(quantized_input, normalized(pixels(), MEAN, STD))
    changed = quantized_input.transform(Uint8Input(MEAN, STD))
    np.testing.assert_array_equal(execute(changed, pixels()), expected)
    assert changed.get_tensor_datatype("x").name == "UINT8"
    thresholds = changed.get_initializer(changed.graph.node[0].input[1])
    assert ((thresholds >= 0) & (thresholds <= 256) & (thresholds % 1 == 0)).all()


@pytest.mark.parametrize("transposed", [True, False])
def test_the_transpose_goes_to_the_front_or_away(quantized_input, execute, operators, transposed):
    x = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    expected = execute(quantized_input, x)
    changed = quantized_input.transform(ChannelsLastInput(transposed=transposed))
    assert operators(changed) == ["Transpose"] * transposed + ["MultiThreshold"]
    given = x if transposed else x.transpose(0, 2, 3, 1)
    assert changed.get_tensor_shape("x") == list(given.shape)
    np.testing.assert_array_equal(execute(changed, given), expected)


def test_a_graph_without_an_input_quantizer_takes_no_pixels(make_node, make_graph):
    model = make_graph([make_node("Relu", ["x"], "y")], SHAPE)
    with pytest.raises(ValueError, match="first layer is a quantizer"):
        model.transform(Uint8Input(MEAN, STD))


def test_mean_and_std_have_to_fit_the_channels(quantized_input):
    with pytest.raises(ValueError, match="each of 3 channels, not 1 and 1"):
        quantized_input.transform(Uint8Input((0.5,), (0.5,)))
