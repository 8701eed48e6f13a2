"""Small QONNX graphs run by QONNX's own executor, and narrow models in their hardware form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from brevitas.nn import QuantConv2d, QuantIdentity
from onnx import NodeProto, TensorProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes
from torch import nn

from brevitas_ftprop import quant, swap_quantizers
from brevitas_ftprop.export.tags import CALL, QUANTIZER
from brevitas_ftprop.models import ConvNet4, QuantAlexNet, QuantResNet18

SIZES = {"convnet4": 16, "alexnet": 64, "resnet18_cifar": 32, "resnet18_imagenet": 64}
BUILDERS = {
    "convnet4": lambda **options: ConvNet4(10, 16, channels=(4, 6), fc=8, **options),
    "alexnet": lambda **options: QuantAlexNet(
        10, 64, channels=(8, 16, 16, 16, 16), fc=32, **options
    ),
    "resnet18_cifar": lambda **options: QuantResNet18(10, "cifar", base=4, **options),
    "resnet18_imagenet": lambda **options: QuantResNet18(10, "imagenet", base=4, **options),
}

QONNX = "qonnx.custom_op.general"


def node(
    operator: str, inputs: list[str], output: str, *, tag: str = "", **attributes
) -> NodeProto:
    domain = QONNX if operator in ("Quant", "BipolarQuant", "MultiThreshold") else ""
    made = onnx.helper.make_node(operator, inputs, [output], domain=domain, **attributes)
    if tag:
        made.metadata_props.add(key=QUANTIZER, value=tag)
        made.metadata_props.add(key=CALL, value="0")
    return made


def graph_of(nodes: list[NodeProto], shape: tuple[int, ...], **constants) -> ModelWrapper:
    """A graph from ``x`` of a shape to ``y``, with constants by name."""
    graph = onnx.helper.make_graph(
        nodes,
        "test",
        [onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid(QONNX, 2)]
    model = ModelWrapper(onnx.helper.make_model(graph, opset_imports=opsets))
    for name, value in constants.items():
        array = np.asarray(value)
        is_index = array.dtype == np.int64 and array.ndim == 1
        model.set_initializer(name, array if is_index else array.astype(np.float32))
    return model.transform(InferShapes())


def run(model: ModelWrapper, x: np.ndarray) -> np.ndarray:
    outputs = execute_onnx(model.transform(InferShapes()), {"x": x.astype(np.float32)})
    return outputs["y"]


@pytest.fixture
def make_node() -> Callable[..., NodeProto]:
    return node


@pytest.fixture
def make_graph() -> Callable[..., ModelWrapper]:
    return graph_of


@pytest.fixture
def execute() -> Callable[[ModelWrapper, np.ndarray], np.ndarray]:
    return run


@pytest.fixture
def operators() -> Callable[[ModelWrapper], list[str]]:
    return lambda model: [node.op_type for node in model.graph.node]


def trained(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    """A few steps with a rule of our own, from a model that was converted back and forth."""
    swap_quantizers(model, "soft_hinge")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model.eval()


def resized(name: str, images: torch.Tensor) -> torch.Tensor:
    """Images with zero mean and unit variance, in the size of a model."""
    size = SIZES[name]
    normed = (images - images.mean()) / images.std()
    return nn.functional.interpolate(normed, size=(size, size))


def built(name: str, act: str, bits: int, scale: str, images, labels) -> nn.Module:
    torch.manual_seed(0)
    model = BUILDERS[name](act=act, form="hardware", weight_bits=bits, weight_scale=scale)
    return trained(model, images, labels)


@pytest.fixture(scope="session")
def build_hardware() -> Callable[..., nn.Module]:
    return built


@pytest.fixture
def resize_for() -> Callable[[str, torch.Tensor], torch.Tensor]:
    return resized


@pytest.fixture
def one_block() -> nn.Sequential:
    """Quantizer, convolution, batch norm and sign of images (3, 8, 8); in training mode."""
    torch.manual_seed(0)
    return nn.Sequential(
        QuantIdentity(act_quant=quant.TargetPropInt8ActPerTensorFixedPoint),
        QuantConv2d(
            3,
            4,
            3,
            bias=False,
            weight_quant=quant.TargetPropInt8WeightPerTensorFixedPoint,
            weight_bit_width=4,
        ),
        nn.BatchNorm2d(4),
        QuantIdentity(act_quant=quant.TargetPropSignedBinaryActPerTensorConst),
    )
