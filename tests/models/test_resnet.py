"""ResNet-18 beside torchvision's."""

from __future__ import annotations

import pytest
import torch
import torchvision
from brevitas.nn import QuantIdentity
from torch import nn

from brevitas_ftprop.models import QuantResNet18


def test_parameters_are_torchvision_s():
    model = QuantResNet18(act="relu")
    reference = torchvision.models.resnet18(weights=None)
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_689_512
    own = {name: value.shape for name, value in model.state_dict().items()}
    assert own == {name: value.shape for name, value in reference.state_dict().items()}


@pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
def test_the_float_form_computes_what_torchvision_s_does(train):
    reference = torchvision.models.resnet18(weights=None, num_classes=10)
    model = QuantResNet18(10, act="relu")
    for norm in (m for m in reference.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    model.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(model.train(train)(images), reference.train(train)(images))


def test_the_cifar_stem_keeps_the_resolution():
    model = QuantResNet18(10, "cifar", base=4).eval()
    assert model.conv1.kernel_size == (3, 3)
    assert isinstance(model.maxpool, nn.Identity)
    shapes = []
    for layer in (model.layer1, model.layer4):
        layer.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    model(torch.zeros(1, 3, 32, 32))
    assert shapes == [(1, 4, 32, 32), (1, 32, 4, 4)]


def test_both_summands_of_a_hardware_block_pass_one_shared_quantizer():
    model = QuantResNet18(10, "cifar", base=4, form="hardware", residual_bits=5)
    blocks = [*model.layer1, *model.layer2, *model.layer3, *model.layer4]
    calls = []
    for block in blocks:
        assert isinstance(block.summand, QuantIdentity)
        block.summand.register_forward_hook(lambda module, inputs, output: calls.append(module))
    model.eval()(torch.randn(1, 3, 32, 32))
    assert calls == [block.summand for block in blocks for _ in range(2)]
    assert all(block.summand.act_quant.bit_width() == 5 for block in blocks)
    assert all(block.summand.act_quant.is_signed for block in blocks)


def test_a_paper_block_adds_as_it_is():
    model = QuantResNet18(10, "cifar", base=4)
    assert isinstance(model.layer1[0].summand, nn.Identity)


@pytest.mark.parametrize("bits", [1, 9, 2.5])
def test_residual_bits_out_of_range_are_refused(bits):
    with pytest.raises(ValueError, match=f"residual_bits must be 2 to 8, not {bits}"):
        QuantResNet18(10, form="hardware", base=4, residual_bits=bits)


def test_an_unknown_stem_is_refused():
    with pytest.raises(ValueError, match="stem must be one of imagenet, cifar, not 'mnist'"):
        QuantResNet18(10, "mnist")
