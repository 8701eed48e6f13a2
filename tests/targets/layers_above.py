"""Networks with one layer between sign quantizers, and what a setter can ask of it."""

import torch
from brevitas.nn import QuantIdentity
from torch import nn

from brevitas_ftprop.quant import TargetPropSignedBinaryActPerTensorConst as Sign
from brevitas_ftprop.search import search_targets
from brevitas_ftprop.targets import GradientSign, TargetSetter

SMOOTH = ("soft_hinge", "sigmoid", "log_sigmoid", "logistic", "swish_sign", "adaline")
PIECEWISE = ("ste", "saturated_ste", "hinge", "perceptron", "truncated_hinge")


class Fork(nn.Module):
    """``act → layer`` and ``act`` itself, each to a quantizer of its own."""

    def __init__(self, layer, reader, other):
        super().__init__()
        self.layer, self.reader, self.other = layer, reader, other

    def forward(self, h):
        h = h.value
        return torch.cat([self.reader(self.layer(h)).value, self.other(h).value], 1)


class Value(nn.Module):
    def forward(self, quantized):
        return quantized.value


def sign(rule="soft_hinge", scale=1.0):
    return QuantIdentity(
        act_quant=Sign, rule=rule, scaling_init=scale, return_quant_tensor=True
    ).double()


def network(layer, shape, *, rule="soft_hinge", classes=3, scale=0.7):
    """``sign → layer → sign → linear`` in float64, and inputs of it."""
    below, between = sign(scale=scale), nn.Sequential(Value(), layer.double())
    reader = nn.Sequential(sign(rule, scale=1.25), Value(), nn.Flatten())
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    head = nn.Linear(reader(between(below(x.detach()))).shape[1], classes, dtype=torch.float64)
    return nn.Sequential(below, between, reader, head), x


class Twice(nn.Module):
    """A layer with two ways that meet again."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 5)

    def forward(self, h):
        return h + self.linear(h)


class Asking(TargetSetter):
    """Keeps −sign(g), and asks a question of each layer on the way."""

    name = "asking"

    def choose(self, h, grad, above, generator):
        self.answers.append(self.question(above, h, grad))
        return GradientSign().choose(h, grad, above, generator)


def ask(model, x, loss, question):
    """Answers of the layers above, from the top down, in one backward pass.

    Args:
        question: a function of the layer above, the output and its gradient.
    """
    setter = Asking()
    object.__setattr__(setter, "answers", [])
    object.__setattr__(setter, "question", question)
    with search_targets(model, setter) as search:
        loss(model(x)).backward()
    return setter.answers, search.left


def cross_entropy(logits):
    labels = torch.arange(len(logits)) % logits.shape[1]
    return nn.functional.cross_entropy(logits, labels)
