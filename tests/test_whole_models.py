"""Gradients of whole models: by each backend and form of saving, in bfloat16, channels last.

On a GPU where there is one, else on the CPU.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from brevitas_examples.bnn_pynq.models import model_with_cfg
from torch import Tensor, nn

from brevitas_ftprop import swap_quantizers
from brevitas_ftprop.kernels import ENVIRONMENT_VARIABLE
from brevitas_ftprop.kernels.backends import blocked
from brevitas_ftprop.models import ConvNet4, ConvNet8, QuantAlexNet, QuantResNet18
from brevitas_ftprop.proxy import TargetPropProxy

pytestmark = pytest.mark.heavy

DEVICE = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
FASTEST = {"cuda": "triton", "cpu": "blocked"}[DEVICE.type]
MODELS: dict[str, Callable[[str], nn.Module]] = {
    "convnet4": lambda rule: ConvNet4(10, 16, channels=(4, 4), fc=8, act="sign", rule=rule),
    "convnet8": lambda rule: ConvNet8(
        10, 32, channels=(4, 4, 4, 4, 4, 4, 8), act="staircase3", rule=rule
    ),
    "alexnet": lambda rule: QuantAlexNet(
        10, 64, channels=(4, 4, 4, 4, 4), fc=8, act="int4", rule=rule
    ),
    "resnet18": lambda rule: QuantResNet18(10, "cifar", base=8, act="int2", rule=rule),
    "cnv_1w1a": lambda rule: converted("cnv_1w1a", rule),
    "resnet18_4w4a": lambda rule: converted("resnet18_4w4a", rule),
}
SIZES = {"convnet4": 16, "alexnet": 64}
# The largest of them takes as long as the others together, and has each kind of layer of theirs.
SMALLER = [pytest.param(n, marks=[pytest.mark.slow] * (n == "resnet18_4w4a")) for n in MODELS]
# Of each gradient, relative to its norm.
EXACT = 5e-5  # float32 sums in another order
CHANNELS_LAST = 1e-9  # float64, in which no unit's sum crosses a threshold in another order
COMPACT = 2e-2  # 1/510 of the slope's range at each quantizer
HALF = 1e-2  # scales' gradients are sums of differences of which each is known to 1/1024
MIXED = 1e-2  # of all gradients together: bfloat16 sums of single scales nearly cancel


def converted(name: str, rule: str) -> nn.Module:
    model, _ = model_with_cfg(name, False)
    swap_quantizers(model, rule, weights=True)
    return model


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocked, "BLOCK", 1 << 8)


@pytest.fixture(autouse=True)
def convolutions_of_one_result(monkeypatch):
    """On a GPU: neither atomic sums nor TensorFloat-32, of which thresholds make large errors."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def build(name: str, rule: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = MODELS[name](rule).train().to(DEVICE)
    size = SIZES.get(name, 32)
    images = torch.rand(3, 3, size, size).to(DEVICE)
    with torch.no_grad():
        # Scales start from statistics.
        model(images)
    return model, images


def gradients(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(0)  # of dropout
    outputs = model(images).flatten(1)
    nn.functional.cross_entropy(outputs.to(images.dtype), torch.arange(3).to(DEVICE)).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_close(ours: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert ours.keys() == expected.keys()
    for name, gradient in expected.items():
        distance = (ours[name] - gradient).norm()
        assert distance <= tolerance * gradient.norm() + 1e-7, (name, distance, gradient.norm())


@pytest.mark.parametrize("rule", ["saturated_ste", "soft_hinge", "hinge"])
@pytest.mark.parametrize("name", SMALLER)
@pytest.mark.cover(1)
def test_the_fastest_backend_gives_the_gradients_of_eager(name, rule, monkeypatch):
    model, images = build(name, rule)
    twin = copy.deepcopy(model)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, FASTEST)
    ours = gradients(model, images)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "eager")
    assert_close(ours, gradients(twin, images), EXACT)


@pytest.mark.parametrize("rule", ["saturated_ste", "soft_hinge", "hinge"])
@pytest.mark.parametrize("name", SMALLER)
@pytest.mark.cover(1)
def test_compact_saving_gives_the_gradients_of_exact_saving(name, rule):
    model, images = build(name, rule)
    twin = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, TargetPropProxy):
            module.saved = "compact"
    ours, expected = (scales_as_one(gradients(each, images)) for each in (model, twin))
    two_valued = HALF if "scales" in expected else EXACT
    assert_close(ours, expected, COMPACT if rule == "soft_hinge" else two_valued)


def scales_as_one(gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    """All scales' gradients as one: large terms may cancel in each by itself."""
    of_scales = {name: g.flatten() for name, g in gradients.items() if "scaling_impl" in name}
    rest = {name: g for name, g in gradients.items() if name not in of_scales}
    return rest | ({"scales": torch.cat(list(of_scales.values()))} if of_scales else {})


# Sums in resnet18_4w4a tie with its thresholds exactly, so that the order of a convolution's sums
# decides: stock Brevitas' own gradients differ by 40 % between the two layouts there.
@pytest.mark.parametrize("name", [name for name in MODELS if name != "resnet18_4w4a"])
def test_channels_last_gives_the_same_gradients(name):
    model, images = build(name, "soft_hinge")
    model, images = model.double(), images.double()
    twin = copy.deepcopy(model).to(memory_format=torch.channels_last)
    ours = gradients(twin, images.contiguous(memory_format=torch.channels_last))
    assert_close(ours, gradients(model, images), CHANNELS_LAST)


@pytest.mark.parametrize("saved", ["exact", "compact"])
@pytest.mark.parametrize("name", SMALLER)
@pytest.mark.cover(1)
def test_mixed_precision_gives_the_same_gradients_by_either_backend(name, saved, monkeypatch):
    model, images = build(name, "saturated_ste")
    for module in model.modules():
        if isinstance(module, TargetPropProxy):
            module.saved = saved
    twin = copy.deepcopy(model)
    found = []
    for backend, each in ((FASTEST, model), ("eager", twin)):
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, backend)
        with torch.autocast(DEVICE.type, torch.bfloat16):
            found.append(gradients(each, images))
    assert all(gradient.isfinite().all() for gradient in found[0].values())
    ours, expected = (torch.cat([g.flatten() for g in each.values()]) for each in found)
    assert (ours - expected).norm() <= MIXED * expected.norm()
