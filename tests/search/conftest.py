"""Small models of all kinds in which targets are searched for."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from brevitas.nn import QuantIdentity
from brevitas_examples.bnn_pynq.models import model_with_cfg
from torch import Tensor, nn

from brevitas_ftprop.models import ConvNet4, ConvNet8, QuantAlexNet, QuantResNet18
from brevitas_ftprop.quant import TargetPropSignedBinaryActPerTensorConst
from brevitas_ftprop.targets import SETTERS, Targets, TargetSetter, register_setter

SIZES = {"convnet4": 16, "alexnet": 64, "resnet18_4w4a": 32}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "convnet4": lambda: ConvNet4(10, 16, channels=(4, 4), fc=8),
    "convnet8": lambda: ConvNet8(10, 32, channels=(4, 4, 4, 4, 4, 4, 8)),
    "alexnet": lambda: QuantAlexNet(10, 64, channels=(4, 4, 4, 4, 4), fc=8),
    "resnet18": lambda: QuantResNet18(10, "cifar", base=8),
    "cnv_1w1a": lambda: model_with_cfg("cnv_1w1a", False)[0],
    "resnet18_4w4a": lambda: model_with_cfg("resnet18_4w4a", False)[0],
}


def sign(**options: object) -> QuantIdentity:
    return QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst, **options)


def images(name: str, count: int = 3) -> Tensor:
    size = SIZES.get(name, 32)
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def backward(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Gradients of a cross-entropy, and the buffers that the pass leaves."""
    torch.manual_seed(0)  # of dropout
    outputs = model(x)
    labels = torch.arange(len(x), device=x.device) % outputs.shape[1]
    nn.functional.cross_entropy(outputs.flatten(1).float(), labels).backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return found | {f"buffer {name}": buffer for name, buffer in model.named_buffers()}


def assert_same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in other.items():
        assert torch.equal(one[name], value), name


# The largest of them takes as long as the others together.
@pytest.fixture(
    params=[pytest.param(n, marks=[pytest.mark.slow] * (n == "resnet18_4w4a")) for n in MODELS]
)
def named_model(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    torch.manual_seed(0)
    model = MODELS[request.param]().train()
    with torch.no_grad():
        # Scales start from statistics.
        model(images(request.param))
    return request.param, model


@pytest.fixture
def twins(named_model) -> tuple[nn.Module, nn.Module, Tensor]:
    name, model = named_model
    return model, copy.deepcopy(model), images(name)


@pytest.fixture
def follow() -> Iterator[str]:
    """A setter that looks at every layer and then asks for −sign(g) with |g|."""

    @register_setter
    class Follow(TargetSetter):
        name = "follow"

        def choose(self, h, grad, above, generator):
            assert above.losses(h).shape == h.shape[:1]
            return Targets(-grad.sign(), grad.abs())

    yield "follow"
    del SETTERS["follow"]
