"""Accelerators run in any folding once their FIFOs are sized, whenever images come and go."""

from __future__ import annotations

import numpy as np
import pytest

from brevitas_ftprop.export.finn.environment import finn_environment

from .conftest import residual


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_random_folding_runs_with_its_sized_fifos(size, simulate, random_values, seed):
    rng = np.random.default_rng(seed)
    either = [int(each) for each in rng.integers(1, 3, 6)]
    simd = int(rng.choice([1, 2, 3, 6, 9, 18]))
    model = residual(rng, simd=simd, folded=either).build()
    images = random_values("INT4", (3, 5, 5, 2), rng)
    sizing = size(model, images)
    assert sizing.ok, str(sizing)
    free = simulate(model, images, fifo_depths=dict.fromkeys(sizing.depths, 1000))
    assert sizing.report.steady == free.steady
    paused = simulate(model, images, fifo_depths=sizing.depths, frames=6, pauses=True)
    assert paused.ok, str(paused)


def randomly_folded(path, rng: np.random.Generator):
    """A partition with any folding that FINN takes, node by node.

    Left out is what FINN's RTL does wrong (``test_finns_rtl.py``): matrix-vector units that take
    all their inputs at once, and whole windows of lines that are one pixel longer.
    """
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.custom_op.registry import getCustomOp

    with finn_environment():
        model = ModelWrapper(str(path))
        for node in model.graph.node:
            op = getCustomOp(node)
            get, put = op.get_nodeattr, op.set_nodeattr

            def divisor(count: int, below: int | None = None) -> int:
                fitting = [i for i in range(1, below or count + 1) if count % i == 0]
                return int(rng.choice(fitting))

            kind = node.op_type.rpartition("_")[0]
            if kind == "MVAU":
                is_rtl = node.op_type == "MVAU_rtl"
                put("SIMD", divisor(get("MW"), get("MW") if is_rtl else None))
                put("PE", divisor(get("MH")))
            elif kind == "ConvolutionInputGenerator":
                put("SIMD", divisor(get("IFMChannels")))
                longer = get("IFMDim")[1] - get("ConvKernelDim")[1]
                is_whole = get("SIMD") == get("IFMChannels") and longer > 1
                put("parallel_window", int(is_whole and rng.integers(2)))
            elif kind == "FMPadding":
                put("SIMD", divisor(get("NumChannels")))
            elif kind == "LabelSelect":
                put("PE", divisor(get("Labels")))
            else:
                put("PE", divisor(op.get_normal_output_shape()[-1]))
        return model


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
def test_a_random_folding_of_a_resnet_runs_with_its_sized_fifos(size, simulate, resnet, seed):
    path, images, classes = resnet
    model = randomly_folded(path, np.random.default_rng(seed))
    sizing = size(model, images, trials=0)
    assert sizing.ok, str(sizing)
    np.testing.assert_array_equal(sizing.report.outputs.reshape(-1), classes[[0, 1, 0]])
    paused = simulate(model, images, fifo_depths=sizing.depths, frames=4, pauses=True)
    assert paused.ok, str(paused)
    np.testing.assert_array_equal(paused.outputs.reshape(-1), classes[[0, 1, 0, 1]])
    print(
        f"folding {seed}: {len(sizing.depths)} FIFOs of {sizing.bits} bits, {sizing.report.steady}"
        f" cycles between frames, estimated {sizing.report.estimated_between_frames}"
    )
