"""Networks as others define them go through the flow, no integer different."""

from __future__ import annotations

from collections.abc import Callable

import brevitas.nn as qnn
import pytest
import torch
from brevitas.quant import Int8WeightPerChannelFloat, Int8WeightPerTensorFloat, Int32Bias
from torch import nn

from brevitas_ftprop.export.deployable import check_deployable

TENSOR = {"return_quant_tensor": True}


class Block(nn.Module):
    """Two convolutions with quantized biases and a shortcut."""

    def __init__(self, entering: int, leaving: int, stride: int) -> None:
        super().__init__()
        options = {"bias": True, "bias_quant": Int32Bias}
        self.conv1 = qnn.QuantConv2d(entering, leaving, 3, stride, 1, **options)
        self.act1 = qnn.QuantReLU(**TENSOR)
        self.conv2 = qnn.QuantConv2d(leaving, leaving, 3, 1, 1, **options)
        self.norms = nn.ModuleList([nn.BatchNorm2d(leaving), nn.BatchNorm2d(leaving)])
        self.shortcut = nn.Identity()
        if stride > 1:
            self.shortcut = qnn.QuantConv2d(entering, leaving, 1, stride, **options)
        self.shared, self.act2 = qnn.QuantIdentity(**TENSOR), qnn.QuantReLU(**TENSOR)

    def forward(self, x):
        y = self.norms[1](self.conv2(self.act1(self.norms[0](self.conv1(x)))))
        return self.act2(self.shared(y) + self.shared(self.shortcut(x)))


def resnet8(width: int = 4) -> nn.Module:
    """As in MLPerf Tiny, with a quantizer behind the flattened average."""
    return nn.Sequential(
        qnn.QuantIdentity(**TENSOR),
        qnn.QuantConv2d(3, width, 3, padding=1, bias=True, bias_quant=Int32Bias),
        nn.BatchNorm2d(width),
        qnn.QuantReLU(**TENSOR),
        Block(width, width, 1),
        Block(width, 2 * width, 2),
        Block(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        qnn.QuantIdentity(**TENSOR),
        qnn.QuantLinear(4 * width, 10, bias=True, bias_quant=Int32Bias),
    )


def resnet18_4w4a(width: int = 8) -> nn.Module:
    """Brevitas' own, narrow, with a quantizer for its image."""
    from brevitas_examples.bnn_pynq.models.resnet import QuantBasicBlock, QuantResNet

    model = QuantResNet(QuantBasicBlock, [2, 2, 2, 2], weight_bit_width=4, act_bit_width=4)
    options = {"weight_bit_width": 8, "weight_quant": Int8WeightPerChannelFloat, "bias": False}
    model.in_planes, act = width, model.relu
    model.conv1, model.bn1 = qnn.QuantConv2d(3, width, 3, 1, 1, **options), nn.BatchNorm2d(width)
    for index in range(4):
        leaving, stride = width << index, 1 + (index > 0)
        made = QuantBasicBlock, leaving, 2, stride, act, 4, 4, Int8WeightPerChannelFloat
        layer, act = model._make_layer(*made)
        setattr(model, f"layer{index + 1}", layer)
    options = {"weight_bit_width": 8, "weight_quant": Int8WeightPerTensorFloat}
    model.linear = qnn.QuantLinear(8 * width, 10, True, bias_quant=Int32Bias, **options)
    return nn.Sequential(qnn.QuantIdentity(**TENSOR), model)


def torchvision_resnet18(width: int = 4) -> nn.Module:
    from torchvision.models.resnet import BasicBlock, ResNet

    model = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=10)
    model.inplanes = width
    model.conv1, model.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
    for index in range(4):
        layer = model._make_layer(BasicBlock, width << index, 2, stride=1 + (index > 0))
        setattr(model, f"layer{index + 1}", layer)
    model.fc = nn.Linear(8 * width, 10)
    return quantized(model, 64)


def torchvision_alexnet() -> nn.Module:
    from torchvision.models import alexnet

    model = alexnet(weights=None, num_classes=10, dropout=0.0)
    widths = {0: (3, 8), 3: (8, 12), 6: (12, 16), 8: (16, 12), 10: (12, 8)}
    for index, (entering, leaving) in widths.items():
        old: nn.Conv2d = model.features[index]
        sizes = old.kernel_size, old.stride, old.padding
        model.features[index] = nn.Conv2d(entering, leaving, *sizes)
    for index, sizes in {1: (288, 16), 4: (16, 16), 6: (16, 10)}.items():
        model.classifier[index] = nn.Linear(*sizes)
    return quantized(model, 224)


def radio_vgg(width: int = 6, depth: int = 4) -> nn.Module:
    """A VGG of one dimension for radio signals of an in-phase and a quadrature channel."""
    layers: list[nn.Module] = [qnn.QuantIdentity()]
    for index in range(depth):
        entering = width if index else 2
        layers += [
            qnn.QuantConv1d(entering, width, 3, padding=1, bias=False, weight_bit_width=6),
            nn.BatchNorm1d(width),
            qnn.QuantReLU(bit_width=6),
            nn.MaxPool1d(2),
        ]
    layers += [nn.Flatten()]
    for entering, leaving in ((width * 64 // 2**depth, 16), (16, 16)):
        layers += [qnn.QuantLinear(entering, leaving, bias=False, weight_bit_width=6)]
        layers += [nn.BatchNorm1d(leaving), qnn.QuantReLU(bit_width=6)]
    return nn.Sequential(*layers, qnn.QuantLinear(16, 24, bias=False, weight_bit_width=6))


class TinyYolo(nn.Module):
    """Convolutions and pools, and a map of boxes from two sizes, the smaller one upsampled."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.image, self.pool, self.up = (
            qnn.QuantIdentity(),
            nn.MaxPool2d(2),
            nn.Upsample(scale_factor=2),
        )
        self.first, self.second = self._block(3, width, 3), self._block(width, 2 * width, 3)
        self.third = self._block(2 * width, 4 * width, 3)
        # What is joined passes one quantizer.
        self.joined = qnn.QuantReLU(bit_width=4)
        self.lateral = self._conv(4 * width, width, 1)
        self.middle = self._conv(2 * width, 2 * width, 3)
        self.head = self._block(3 * width, 2 * width, 3)
        self.boxes = qnn.QuantConv2d(2 * width, 18, 1, bias=False, weight_bit_width=8)

    @staticmethod
    def _conv(entering: int, leaving: int, kernel: int) -> nn.Module:
        options = {"padding": kernel // 2, "bias": False, "weight_bit_width": 4}
        conv = qnn.QuantConv2d(entering, leaving, kernel, **options)
        return nn.Sequential(conv, nn.BatchNorm2d(leaving))

    def _block(self, entering: int, leaving: int, kernel: int) -> nn.Module:
        return nn.Sequential(self._conv(entering, leaving, kernel), qnn.QuantReLU(bit_width=4))

    def forward(self, x):
        fine = self.second(self.pool(self.first(self.image(x))))
        coarse = self.third(self.pool(fine))
        above = self.up(self.joined(self.lateral(coarse)))
        return self.boxes(self.head(torch.cat([above, self.joined(self.middle(fine))], 1)))


def quantized(model: nn.Module, size: int) -> nn.Module:
    from brevitas.graph.quantize import preprocess_for_quantize, quantize

    trained(model, (3, size, size))
    return quantize(preprocess_for_quantize(model))


def trained(model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Statistics collected, and batch norms off their start."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.uniform_(0.7, 1.3)
                module.bias.normal_(0, 0.3)
        for _ in range(2):
            model.train()(torch.randn(4, *shape))
    return model.eval()


DEFINITIONS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "ResNet-8": (resnet8, (3, 16, 16)),
    "ResNet-18 4W4A": (resnet18_4w4a, (3, 32, 32)),
    "torchvision ResNet-18": (torchvision_resnet18, (3, 64, 64)),
    "torchvision AlexNet": (torchvision_alexnet, (3, 224, 224)),
    "VGG for radio signals": (radio_vgg, (2, 64)),
    "tiny YOLO": (TinyYolo, (3, 16, 16)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_definition_of_others_becomes_one_verified_partition(name, tmp_path):
    pytest.importorskip("finn", reason="needs the extra 'finn'")
    from brevitas_ftprop.export.finn import export_finn

    torch.manual_seed(0)
    make, shape = DEFINITIONS[name]
    model = trained(make(), shape)
    example, batch = torch.randn(1, *shape), torch.randn(3, *shape)
    assert check_deployable(model, example, dynamo=False).ok
    options = {"dynamo": False, "progress": False, "batch": batch}
    report = export_finn(model, example, tmp_path / "out", **options)
    assert report.ok, str(report)
    for step in report.steps:
        assert (step.mismatches, step.wrong_outputs) == (0, 0)
        assert step.same_class == step.images == 3
    assert report.steps[-1].software_nodes == []


def test_biases_pools_and_flattenings_of_others_in_one_small_network(tmp_path):
    pytest.importorskip("finn", reason="needs the extra 'finn'")
    from brevitas_ftprop.export.finn import export_finn

    torch.manual_seed(0)
    biased = {"bias": True, "bias_quant": Int32Bias, "weight_quant": Int8WeightPerChannelFloat}
    layers = [
        qnn.QuantIdentity(**TENSOR),
        qnn.QuantConv2d(3, 4, 3, **biased),
        qnn.QuantReLU(bit_width=4, **TENSOR),
        qnn.TruncAvgPool2d(2, bit_width=4, float_to_int_impl_type="FLOOR"),
        nn.AdaptiveAvgPool2d(3),
        qnn.QuantConv2d(4, 4, 1, **biased),
        nn.Flatten(),
        qnn.QuantReLU(bit_width=3, **TENSOR),
        qnn.QuantLinear(36, 5, **biased),
    ]
    model = trained(nn.Sequential(*layers), (3, 8, 8))
    example = torch.randn(1, 3, 8, 8)
    options = {"dynamo": False, "progress": False, "batch": torch.randn(4, 3, 8, 8)}
    assert check_deployable(model, example, dynamo=False).ok
    report = export_finn(model, example, tmp_path / "out", **options)
    assert report.ok, str(report)
    assert report.steps[-1].software_nodes == []
    assert report.steps[-1].mismatches == 0
