"""The networks of brevitas_examples, as they are and narrow."""

from __future__ import annotations

import brevitas.nn as qnn
from brevitas.quant import Int8WeightPerChannelFloat, Int8WeightPerTensorFloat, Int32Bias
from torch import nn

TENSOR = {"return_quant_tensor": True}


def bnn_pynq(name: str) -> nn.Module:
    """A network of ``bnn_pynq`` by its name, such as ``"cnv_1w1a"``, untrained."""
    from brevitas_examples.bnn_pynq.models import model_with_cfg

    return model_with_cfg(name, False)[0]


def resnet18_4w4a(width: int | None = 8) -> nn.Module:
    """``bnn_pynq``'s ResNet-18 for 32×32 with 4 bits, with a quantizer for its image.

    Args:
        width: channels of its first stage; None for the 64 that it has.
    """
    from brevitas_examples.bnn_pynq.models.resnet import QuantBasicBlock, QuantResNet

    model = QuantResNet(QuantBasicBlock, [2, 2, 2, 2], weight_bit_width=4, act_bit_width=4)
    if width is not None:
        options = {"weight_bit_width": 8, "weight_quant": Int8WeightPerChannelFloat, "bias": False}
        model.in_planes, act = width, model.relu
        model.conv1 = qnn.QuantConv2d(3, width, 3, 1, 1, **options)
        model.bn1 = nn.BatchNorm2d(width)
        for index in range(4):
            made = QuantBasicBlock, width << index, 2, 1 + (index > 0), act
            layer, act = model._make_layer(*made, 4, 4, Int8WeightPerChannelFloat)
            setattr(model, f"layer{index + 1}", layer)
        options = {"weight_bit_width": 8, "weight_quant": Int8WeightPerTensorFloat}
        model.linear = qnn.QuantLinear(8 * width, 10, True, bias_quant=Int32Bias, **options)
    return nn.Sequential(qnn.QuantIdentity(**TENSOR), model)


def mobilenet_v1(width: float = 0.125, *, pool: int = 7) -> nn.Module:
    """The MobileNet-v1 with 4 bits of ``imagenet_classification``.

    Args:
        width: of its stages; 1 for the full network.
        pool: size of the map that it averages at the end, 7 for images of 224×224.
    """
    from brevitas_examples.imagenet_classification.models.mobilenetv1 import MobileNet

    stages = [[32], [64], [128, 128], [256, 256], [512] * 6, [1024, 1024]]
    return MobileNet(
        channels=[[int(each * width) for each in stage] for stage in stages],
        first_stage_stride=False,
        act_bit_width=4,
        weight_bit_width=4,
        avg_pool_kernel_size=pool,
        num_classes=10,
    )
