"""FTPROP-MB layer by layer, without the package's backward, beside one ``loss.backward()``.

Feasible target propagation (Friesen & Domingos, algorithm 1, mini-batch): from the top layer
down, targets are set by the sign of the gradient that the layer above hands down; each layer's
own loss then gives, by one autograd call, the gradients of its parameters and of its input.
"""

import pytest
import torch
from brevitas.nn import QuantIdentity
from torch import nn

from brevitas_ftprop import RULES, get_rule
from brevitas_ftprop.quant import (
    TargetPropInt8ActPerTensorConst,
    TargetPropSignedBinaryActPerTensorConst,
    TargetPropSignedTernaryActPerTensorConst,
    TargetPropStaircase3ActPerTensorConst,
)

RULE_NAMES = [name for name, rule in RULES.items() if rule().has_loss]
TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}  # float64


def sign(z):
    return torch.where(z >= 0, 1.0, -1.0).to(z.dtype)


class Step:
    """A hard unit: what it computes, and its margin's pre-activation."""

    def __init__(self, quantizer, forward, units, share=1.0, **options):
        self.quantizer, self.forward = quantizer, forward
        self.units, self.share, self.options = units, share, options

    def module(self, rule, weighting):
        return QuantIdentity(
            act_quant=self.quantizer, rule=rule, weighting=weighting, **self.options
        )


STEPS = {
    "sign": Step(TargetPropSignedBinaryActPerTensorConst, sign, lambda z: [z]),
    # Scale 1 and bits 2, narrow: thresholds ±1/2, one unit over a range of 3.
    "ternary": Step(
        TargetPropSignedTernaryActPerTensorConst,
        lambda z: z.round().clamp(-1, 1),
        lambda z: [2 * z / 3],
    ),
    # 2 bits from -2 to 1 in steps of 1: centre -1/2, four levels.
    "two_bits": Step(
        TargetPropInt8ActPerTensorConst,
        lambda z: z.round().clamp(-2, 1),
        lambda z: [(2 * z + 1) / 4],
        bit_width=2,
        min_val=-2.0,
        max_val=2.0,
    ),
    "two_bits_sum": Step(
        TargetPropInt8ActPerTensorConst,
        lambda z: z.round().clamp(-2, 1),
        lambda z: [z + 1.5, z + 0.5, z - 0.5],
        0.5,
        bit_width=2,
        min_val=-2.0,
        max_val=2.0,
        staircase="sum",
    ),
    "paper": Step(
        TargetPropStaircase3ActPerTensorConst,
        lambda z: (2 * z).ceil().clamp(0, 3) / 3,
        lambda z: [2 * z - 1],
    ),
}


def network(step, rule, weighting):
    """conv-BN-step-conv-BN-step-fc, in blocks that end before each step."""
    torch.manual_seed(11)
    blocks = [
        nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5)),
        nn.Sequential(nn.Flatten(), nn.Linear(5 * 4 * 4, 3)),
    ]
    model = nn.Sequential(
        blocks[0],
        step.module(rule, weighting),
        blocks[1],
        step.module(rule, weighting),
        blocks[2],
    ).double()
    return model, blocks


def top_loss(logits, labels):
    return nn.functional.cross_entropy(logits, labels)


def explicit_gradients(step, blocks, rule, weighting, x, labels):
    """Parameter gradients by one loss and one autograd call a layer, from the top down."""
    # The forward pass cuts the graph at every step: each layer sees fixed inputs.
    inputs, outputs = [x], []
    for block in blocks:
        entering = inputs[-1].detach().requires_grad_()
        inputs[-1] = entering
        outputs.append(block(entering))
        inputs.append(step.forward(outputs[-1].detach()))
    gradients = {}
    layer_loss = top_loss(outputs[-1], labels)
    for block, entering, z_below in zip(
        reversed(blocks), reversed(inputs[:-1]), [*reversed(outputs[:-1]), None], strict=True
    ):
        parameters = list(block.parameters())
        *of_parameters, grad = torch.autograd.grad(layer_loss, [*parameters, entering])
        gradients |= dict(zip(parameters, of_parameters, strict=True))
        if z_below is None:
            break
        target = -torch.sign(grad)
        weight = grad.abs() if weighting == "grad" else torch.full_like(grad, 1 / len(grad))
        layer_loss = 0
        for unit, of_z in zip(step.units(z_below), unit_slopes(step, z_below), strict=True):
            # dividing by du/dz keeps the loss a function of the margin alone
            loss = rule.loss(target * unit) / of_z
            layer_loss = layer_loss + step.share * (weight * loss)[target != 0].sum()
    return gradients


def unit_slopes(step, z):
    """Constants du/dz of the step's units."""
    zero, one = torch.zeros(1, dtype=z.dtype), torch.ones(1, dtype=z.dtype)
    pairs = zip(step.units(one), step.units(zero), strict=True)
    return [(high - low).item() for high, low in pairs]


@pytest.mark.parametrize("weighting", ["grad", "mean"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("rule", RULE_NAMES)
def test_one_backward_is_ftprop_layer_by_layer(rule, step, weighting):
    step = STEPS[step]
    model, blocks = network(step, rule, weighting)
    x = torch.randn(6, 2, 6, 6, dtype=torch.float64)
    labels = torch.randint(3, (6,))
    loss = top_loss(model(x), labels)
    loss.backward()
    by_backward = {parameter: parameter.grad.clone() for parameter in model.parameters()}
    for block in blocks:
        for norm in block.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.reset_running_stats()
    explicit = explicit_gradients(step, blocks, get_rule(rule), weighting, x, labels)
    assert by_backward.keys() == explicit.keys()
    for parameter, gradient in explicit.items():
        torch.testing.assert_close(by_backward[parameter], gradient, **TOLERANCE)
    assert blocks[0][0].weight.grad.any()


def test_rules_that_look_at_the_target_differ_from_even_ones():
    step = STEPS["sign"]
    x, labels = torch.randn(6, 2, 6, 6, dtype=torch.float64), torch.randint(3, (6,))
    gradients = []
    for rule in ("hinge", "saturated_ste", "perceptron", "soft_hinge", "logistic"):
        model, blocks = network(step, rule, "grad")
        top_loss(model(x), labels).backward()
        gradients.append(blocks[0][0].weight.grad)
    for index, one in enumerate(gradients):
        assert all(not torch.allclose(one, other) for other in gradients[:index])
