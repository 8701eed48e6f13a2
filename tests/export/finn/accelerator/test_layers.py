"""Every C++ layer gives what FINN's Python model of it gives, in FINN's cycles."""

from __future__ import annotations

import numpy as np
import pytest

from .conftest import HLSLIB, Graph

pytestmark = pytest.mark.cover(1)


def check(simulate, graph: Graph, images, *, cycles: int | None = None):
    """Values and cycles without pauses, and values with them."""
    model = graph.build()
    report = simulate(model, images, frames=4)
    assert report.ok, str(report)
    assert not report.uncompared
    # FINN's builder makes converters of other sources.
    runs_as = {"_hls": "C++ = finn-hlslib" if HLSLIB else "C++ model"}
    assert all(node.runs_as == runs_as.get(node.op_type[-4:], "C++ model") for node in report.nodes)
    if cycles is not None:
        assert report.estimated_between_frames == cycles
        assert report.between_frames == [cycles] * 3
    paused = simulate(model, images, frames=4, pauses=True)
    assert paused.ok, str(paused)
    np.testing.assert_array_equal(paused.outputs, report.outputs)
    return report


@pytest.mark.parametrize(
    ("function", "datatype"),
    [
        ("MaxPool", "UINT4"),
        ("MaxPool", "INT2"),
        ("AccPool", "UINT4"),
        ("AccPool", "INT2"),
        ("QuantAvgPool", "UINT4"),
    ],
)
@pytest.mark.parametrize(("channels", "pe"), [(4, 1), (6, 3)])
def test_pools(simulate, random_values, function, channels, pe, datatype):
    rng = np.random.default_rng(channels)
    wide = {"MaxPool": datatype, "AccPool": "INT8"}.get(function, datatype)
    made = Graph(datatype, (1, 3, 2, 4 * channels))
    made.add(
        "Pool_hls", "pool", ["image"], {"pool": ((1, 3, 2, channels), wide)}, Channels=channels,
        PE=pe, KernelSize=[2, 2], Function=function, OutImgDims=[3, 2], InputDataType=datatype,
        OutputDataType=wide, AccumBits=8, Size=2, BatchSize=1,
    )  # fmt: skip
    images = random_values(datatype, (2, 3, 2, 4 * channels), rng)
    check(simulate, made, images, cycles=3 * 2 * 4 * channels // pe)


@pytest.mark.parametrize("pe", [1, 2, 6])
def test_global_pools(simulate, random_values, pe):
    made = Graph("INT3", (1, 3, 3, 6)).add(
        "GlobalAccPool_hls", "pool", ["image"], {"pool": ((1, 1, 1, 6), "INT7")}, NumChannels=6,
        PE=pe, inputDataType="INT3", numInputVectors=[1, 3, 3],
    )  # fmt: skip
    images = random_values("INT3", (3, 3, 3, 6), np.random.default_rng(pe))
    check(simulate, made, images, cycles=10 * 6 // pe)


@pytest.mark.parametrize(("pe", "k"), [(1, 1), (5, 1), (2, 3)])
def test_label_selection_takes_the_first_of_equal_values(simulate, random_values, pe, k):
    made = Graph("INT2", (1, 10)).add(
        "LabelSelect_hls", "label", ["image"], {"label": ((1, k), "UINT8")}, Labels=10, PE=pe,
        K=k, inputDataType="INT2", outputDataType="UINT8", numInputVectors=[1],
    )  # fmt: skip
    images = random_values("INT2", (4, 10), np.random.default_rng(k))
    report = check(simulate, made, images, cycles=10 // pe if k == 1 else None)
    expected = np.argsort(-images, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(report.outputs.reshape(4, k), expected)


@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize(
    ("taken", "weights", "xnor"),
    [
        ("INT2", "INT3", 0),
        ("UINT3", "BIPOLAR", 0),
        ("BIPOLAR", "BIPOLAR", 0),
        ("BINARY", "BINARY", 1),
    ],
)
@pytest.mark.parametrize(("pe", "simd"), [(1, 1), (2, 3), (4, 6)])
def test_matrix_vector_units(simulate, random_values, embedded, taken, weights, xnor, pe, simd):
    rng = np.random.default_rng(pe)
    made = Graph(taken, (1, 2, 2, 6))
    matrix = random_values(weights, (6, 4), rng)
    made.multiply(
        "unit", "image", matrix, weights, "UINT8" if xnor or taken == "BIPOLAR" else "INT8",
        pe=pe, simd=simd, binaryXnorMode=xnor,
    )  # fmt: skip
    if embedded:
        node = made._nodes[-1]
        made._constants["unit_t"] = (np.sort(rng.integers(0, 6, (4, 3)), axis=1), "INT8")
        node.input.append("unit_t")
        for attribute in node.attribute:
            if attribute.name == "noActivation":
                attribute.i = 0
            if attribute.name == "outputDataType":
                attribute.s = b"INT3"
        node.attribute.add(name="ActVal", type=2, i=-1)
        made._infos["unit"] = (made.shape("unit"), "INT3")
    images = random_values(taken, (2, 2, 2, 6), rng)
    check(simulate, made, images, cycles=4 * (6 // simd) * (4 // pe))


@pytest.mark.parametrize(("taken", "weights"), [("INT2", "INT3"), ("BIPOLAR", "BIPOLAR")])
@pytest.mark.parametrize(("channels", "simd"), [(1, 1), (3, 1), (3, 2)])
def test_vector_vector_units(simulate, random_values, taken, weights, channels, simd):
    rng = np.random.default_rng(channels)
    made = Graph(taken, (1, 2, 3, 4 * channels)).add(
        "VVAU_hls", "unit", ["image"], {"unit": ((1, 2, 3, channels), "INT7")},
        constants={"unit_w": (random_values(weights, (channels, 1, 2, 2), rng), weights)},
        PE=channels, SIMD=simd, Dim=[2, 3], Channels=channels, Kernel=[2, 2], inputDataType=taken,
        weightDataType=weights, outputDataType="INT7", accDataType="INT7", noActivation=1,
    )  # fmt: skip
    images = random_values(taken, (2, 2, 3, 4 * channels), rng)
    check(simulate, made, images, cycles=2 * 3 * 4 // simd)


@pytest.mark.parametrize(("narrow", "bias"), [("UINT2", 0), ("INT3", -2), ("BIPOLAR", 0)])
@pytest.mark.parametrize("pe", [1, 4])
def test_thresholdings(simulate, random_values, narrow, bias, pe):
    rng = np.random.default_rng(bias + 2)
    steps = 1 if narrow == "BIPOLAR" else 3
    thresholds = np.sort(rng.integers(-8, 8, (4, steps)), axis=1)
    made = Graph("INT4", (1, 2, 3, 4))
    made.threshold("act", "image", thresholds, "INT4", narrow, bias=bias, pe=pe, form="hls")
    images = random_values("INT4", (2, 2, 3, 4), rng)
    check(simulate, made, images, cycles=6 * 4 // pe)


@pytest.mark.parametrize(("simd", "factor"), [(1, 2), (3, 3)])
def test_upsampling(simulate, random_values, simd, factor):
    out = (1, 2 * factor, 4 * factor, 3)
    made = Graph("INT4", (1, 2, 4, 3)).add(
        "UpsampleNearestNeighbour_hls", "up", ["image"], {"up": (out, "INT4")}, SIMD=simd,
        HO=2 * factor, WO=4 * factor, HI=2, WI=4, NumChannels=3, inputDataType="INT4",
    )  # fmt: skip
    images = random_values("INT4", (2, 2, 4, 3), np.random.default_rng(simd))
    check(simulate, made, images, cycles=2 * 4 * factor * factor * (3 // simd))


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Max"])
def test_two_streams_value_by_value(simulate, random_values, kind):
    rng = np.random.default_rng(3)
    made = Graph("INT4", (1, 3, 3, 4)).duplicate("fork", "image", pe=2)
    thresholds = np.sort(rng.integers(-8, 8, (4, 3)), axis=1)
    made.threshold("act", "fork_0", thresholds, "INT4", "INT3", bias=-2, pe=2, form="hls")
    # Two transactions would be too few for the time that the other branch takes.
    made.combine(kind, "both", "act", "fork_1", "INT7", pe=2, inFIFODepths=[4, 4])
    check(simulate, made, random_values("INT4", (3, 3, 3, 4), rng), cycles=3 * 3 * 4 // 2)


@pytest.mark.parametrize("shape", [(1,), (4,), (1, 1, 1, 4)])
def test_a_factor_that_is_a_constant(simulate, random_values, shape):
    rng = np.random.default_rng(4)
    constant = rng.normal(size=shape).astype(np.float32)
    full = [1, 2, 2, 4]
    made = Graph("INT6", (1, 2, 2, 4)).add(
        "ElementwiseMul_hls", "scaled", ["image"], {"scaled": (tuple(full), "FLOAT32")},
        constants={"factor": (constant, "FLOAT32")}, lhs_dtype="INT6", rhs_dtype="FLOAT32",
        out_dtype="FLOAT32", lhs_shape=full, rhs_shape=list(shape), out_shape=full,
        lhs_style="input", rhs_style="const", PE=2 if shape[-1] == 4 else 1,
    )  # fmt: skip
    report = check(simulate, made, random_values("INT6", (2, 2, 2, 4), rng))
    assert report.outputs.dtype == np.float32


def test_channels_that_are_split_and_joined(simulate, random_values):
    made = Graph("INT4", (1, 2, 3, 8)).add(
        "StreamingSplit_hls", "split", ["image"],
        {"first": ((1, 2, 3, 4), "INT4"), "last": ((1, 2, 3, 4), "INT4")}, SIMD=2,
        ChannelsPerStream=[4, 4], inputDataType="INT4", numInputVectors=[1, 2, 3],
        outFIFODepths=[2, 2],
    )  # fmt: skip
    made.add(
        "StreamingConcat_hls", "join", ["last", "first"], {"join": ((1, 2, 3, 8), "INT4")}, SIMD=2,
        ChannelsPerStream=[4, 4], inputDataTypes=["INT4", "INT4"], numInputVectors=[1, 2, 3],
        inFIFODepths=[2, 2],
    )  # fmt: skip
    images = random_values("INT4", (3, 2, 3, 8), np.random.default_rng(5))
    report = check(simulate, made, images)
    swapped = np.concatenate([images[..., 4:], images[..., :4]], axis=-1)
    np.testing.assert_array_equal(report.outputs[:3, 0], swapped)


@pytest.mark.parametrize(("wide", "narrow"), [(6, 2), (1, 4), (4, 6), (3, 2)])
def test_neighbours_of_other_widths_get_a_converter(simulate, random_values, wide, narrow):
    channels = 12
    made = Graph("INT5", (1, 2, 2, channels))
    thresholds = np.tile(np.arange(-3, 4), (channels, 1))
    made.threshold("first", "image", thresholds, "INT5", "INT4", bias=-3, pe=wide, form="hls")
    thresholds = np.tile(np.arange(-2, 3), (channels, 1))
    made.threshold("second", "first", thresholds, "INT4", "INT4", bias=-2, pe=narrow, form="hls")
    images = random_values("INT5", (2, 2, 2, channels), np.random.default_rng(wide))
    report = check(simulate, made, images)
    assert [node.op_type for node in report.nodes] == [
        "Thresholding_hls", "StreamingDataWidthConverter", "Thresholding_hls",
    ]  # fmt: skip
    slowest = 4 * channels // min(wide, narrow)
    assert report.between_frames == [slowest] * 3


@pytest.mark.parametrize("simd", [1, 3, 9])
def test_depthwise_units_take_whole_windows_from_finns_rtl(simulate, random_values, simd):
    rng = np.random.default_rng(simd)
    made = Graph("INT2", (1, 4, 5, 2))
    made.windows("windows", "image", 3, simd=2, depthwise=1, parallel_window=1)
    made.add(
        "VVAU_hls", "unit", ["windows"], {"unit": ((1, 2, 3, 2), "INT7")},
        constants={"unit_w": (random_values("INT3", (2, 1, 3, 3), rng), "INT3")},
        PE=2, SIMD=simd, Dim=[2, 3], Channels=2, Kernel=[3, 3], inputDataType="INT2",
        weightDataType="INT3", outputDataType="INT7", accDataType="INT7", noActivation=1,
    )  # fmt: skip
    images = random_values("INT2", (2, 4, 5, 2), rng)
    for pauses in (False, True):
        report = simulate(made.build(), images, frames=4, pauses=pauses)
        assert report.ok, str(report)
        assert report.nodes[0].runs_as == "FINN's RTL"
