"""Tensors in any memory layout, quantized as stock Brevitas does it."""

import copy

import pytest
import torch
from brevitas.nn import (
    QuantIdentity,
    QuantLinear,
    QuantLSTM,
    QuantMultiheadAttention,
    QuantReLU,
    QuantRNN,
)
from brevitas.quant import (
    Int8ActPerTensorFloatMinMaxInit,
    Int8WeightPerTensorFloat,
    SignedBinaryActPerTensorConst,
    Uint8ActPerTensorFloatMaxInit,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from brevitas_ftprop import swap_quantizers

pytestmark = pytest.mark.heavy

BATCHES = 20
ACTIVATIONS = {
    "sign": lambda: QuantIdentity(SignedBinaryActPerTensorConst),
    "integers": lambda: QuantIdentity(
        Int8ActPerTensorFloatMinMaxInit, min_val=-1.0, max_val=1.0, bit_width=4
    ),
    "rectified": lambda: QuantReLU(Uint8ActPerTensorFloatMaxInit, max_val=1.0, bit_width=2),
}


def twins(make):
    """A stock module and the same one converted."""
    torch.manual_seed(0)
    stock = make()
    ours = copy.deepcopy(stock)
    swap_quantizers(ours, "saturated_ste", weights=True)
    return stock, ours


def strides(x):
    """Those that say where elements lie."""
    return [stride for size, stride in zip(x.shape, x.stride(), strict=True) if size > 1]


@st.composite
def arrangements(draw):
    """A function that gives a tensor of some shape another place in memory, and that shape."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 1, 2])) for _ in shape]

    def arranged(x):
        wide = torch.empty([shape[i] * steps[i] for i in order])
        view = wide.permute([order.index(i) for i in range(len(order))])
        view = view[tuple(slice(None, None, step) for step in steps)]
        return view.copy_(x)

    return arranged, shape


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(list(ACTIVATIONS)),
    arrangement=arrangements(),
    of_gradient=st.permutations(range(5)),
    seed=st.integers(0, 2**16),
)
def test_outputs_and_gradients_are_those_of_stock_in_any_layout(
    name, arrangement, of_gradient, seed
):
    arranged, shape = arrangement
    generator = torch.Generator().manual_seed(seed)
    x = arranged(torch.randn(shape, generator=generator))
    order = [i for i in of_gradient if i < len(shape)]
    grad = torch.randn([shape[i] for i in order], generator=generator)
    grad = grad.permute([order.index(i) for i in range(len(order))])
    results = []
    for module in twins(ACTIVATIONS[name]):
        own = x.as_strided(x.shape, x.stride(), x.storage_offset()).detach().requires_grad_()
        y = module(own)
        gradients = torch.autograd.grad(y, [own, *module.parameters()], grad)
        results.append((y.detach(), *gradients))
    for theirs, ours in zip(*results, strict=True):
        assert torch.equal(theirs, ours)
        assert strides(theirs) == strides(ours)


def test_what_works_with_stock_in_view_works_after_a_conversion():
    stock, ours = twins(ACTIVATIONS["integers"])
    x = torch.randn(8, 50, 37).transpose(1, 2)
    views = [module(x).transpose(1, 2).view(8, -1) for module in (stock, ours)]
    assert torch.equal(*views)


@pytest.mark.parametrize("order", [(1, 0), (0, 1)])
def test_weights_that_are_stored_transposed_train_bit_equal_to_stock(order):
    def make():
        layer = QuantLinear(12, 7, weight_quant=Int8WeightPerTensorFloat, weight_bit_width=4)
        stored = torch.randn([layer.weight.shape[i] for i in order]).permute(order)
        layer.weight = nn.Parameter(stored)
        return layer

    stock, ours = twins(make)
    swap_quantizers(ours, "ste", weights=True)
    for _ in range(BATCHES):
        x = torch.randn(5, 12)
        for layer in (stock, ours):
            layer(x).square().sum().backward()
            with torch.no_grad():
                layer.weight -= 0.01 * layer.weight.grad
            assert layer.weight.grad.stride() == layer.weight.stride()
            layer.weight.grad = None
        assert torch.equal(stock.weight, ours.weight)


SEQUENCES = {
    "attention": lambda: QuantMultiheadAttention(16, 4, packed_in_proj=False, batch_first=True),
    "lstm": lambda: QuantLSTM(16, 8, batch_first=True),
    "rnn": lambda: QuantRNN(16, 8, batch_first=True),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_layers_of_sequences_compute_what_stock_computes(name):
    stock, ours = twins(SEQUENCES[name])
    for _ in range(BATCHES):
        x = torch.randn(3, 6, 16)
        outputs, gradients = [], []
        for layer in (stock, ours):
            own = x.clone().requires_grad_()
            y = layer(own, own, own) if name == "attention" else layer(own)
            y = y[0] if isinstance(y, tuple) else y
            learned = [p for p in layer.parameters() if p.requires_grad]
            found = torch.autograd.grad(y.square().sum(), [own, *learned], allow_unused=True)
            outputs.append(y)
            gradients.append(found)
        assert torch.equal(*outputs)
        for theirs, mine in zip(*gradients, strict=True):
            assert (theirs is None) == (mine is None)
            if theirs is not None:
                # A weight's gradient is summed over the sequence in the order in which the graph's
                # nodes come to be ready.
                torch.testing.assert_close(
                    mine, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max())
                )
