"""The rounding bounds hold for every order of summation, and are zero exactly where they may be."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import nn
from torch.nn import functional as F  # noqa: N812

from brevitas_ftprop.export.verification.bounds import evaluate, unbounded_operators
from brevitas_ftprop.export.verification.rounding import Bounded, exactly, outward, quantum_exponent

FLOATS = st.floats(-8, 8, width=32).map(np.float32)


def bound_of(op_type: str, *inputs, **attributes) -> Bounded:
    known = {f"x{index}": value for index, value in enumerate(inputs)}
    node = helper.make_node(op_type, list(known), ["y"], **attributes)
    graph = helper.make_model(helper.make_graph([node], "one", [], []))
    return evaluate(graph, known)["y"]


def sums_in_all_orders(products: list[np.float32]):
    """Every value that adding float32 numbers one after the other can give."""
    for order in itertools.permutations(products):
        total = np.float32(0)
        for term in order:
            total = np.float32(total + term)
        yield total


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=5))
def test_a_sum_of_products_in_any_order_lies_within_the_bound(pairs):
    x = torch.tensor([[pair[0] for pair in pairs]])
    w = torch.tensor([[pair[1]] for pair in pairs])
    bounded = bound_of("MatMul", x, w)
    exact = sum(Fraction(float(a)) * Fraction(float(b)) for a, b in pairs)
    error = Fraction(float(bounded.error))
    # float64 holds products of float32 numbers exactly, and sums of five to 2⁻⁵⁰.
    slack = Fraction(2) ** -50 * sum(abs(Fraction(float(a)) * Fraction(float(b))) for a, b in pairs)
    assert abs(Fraction(float(bounded.value)) - exact) <= slack
    for total in sums_in_all_orders([a * b for a, b in pairs]):
        assert abs(Fraction(float(total)) - exact) <= error + slack


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-128, 127), st.integers(-8, 7)), min_size=1, max_size=5),
    st.integers(-6, 6),
    st.integers(-6, 6),
)
def test_sums_of_scaled_integers_have_no_error(pairs, x_exponent, w_exponent):
    x = torch.tensor([[pair[0] * 2.0**x_exponent for pair in pairs]])
    w = torch.tensor([[pair[1] * 2.0**w_exponent] for pair in pairs])
    bounded = bound_of("MatMul", x, w)
    assert float(bounded.error) == 0
    products = [
        np.float32(a) * np.float32(b) for a, b in zip(x[0].numpy(), w[:, 0].numpy(), strict=True)
    ]
    assert {float(total) for total in sums_in_all_orders(products)} == {float(bounded.value)}


def test_a_sum_beyond_2_to_the_24_quanta_has_an_error():
    x = torch.tensor([[2.0**24, 1.0, 1.0]])
    assert float(bound_of("MatMul", x, torch.ones(3, 1)).error) > 0
    assert float(bound_of("MatMul", x - torch.tensor([2.0, 0, 0]), torch.ones(3, 1)).error) == 0


def test_scales_that_are_not_powers_of_two_have_an_error():
    x, w = torch.ones(1, 64), 0.1 * torch.ones(64, 1)
    assert 0 < float(bound_of("MatMul", x, w).error) < 64 * torch.finfo(torch.float32).eps * 6.4


def test_each_output_channel_has_its_own_quantum():
    w = torch.stack([torch.full((4,), 0.5), torch.full((4,), 0.1)]).reshape(2, 4, 1, 1)
    error = bound_of("Conv", torch.ones(1, 4, 3, 3), w).error
    assert not error[:, 0].any()
    assert bool((error[:, 1] > 0).all())


@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize(
    "options",
    [{}, {"padding": 1}, {"stride": 2, "padding": 2}, {"dilation": 2}, {"groups": 2}],
    ids=str,
)
def test_convolutions_lie_within_their_bound(options, bias):
    layer = nn.Conv2d(4, 6, 3, bias=bias, **options)
    x = torch.randn(3, 4, 9, 8)
    inputs = [x, layer.weight.detach(), *([layer.bias.detach()] if bias else [])]
    bounded = bound_of(
        "Conv",
        *inputs,
        pads=[*layer.padding, *layer.padding],
        strides=list(layer.stride),
        dilations=list(layer.dilation),
        group=layer.groups,
    )
    exact = layer.double()(x.double()).detach()
    torch.testing.assert_close(bounded.value, exact, rtol=1e-12, atol=1e-12)
    difference = (layer.float()(x).detach().double() - exact).abs()
    assert bool((difference <= bounded.error).all())
    assert float(bounded.error.max()) < 37 * torch.finfo(torch.float32).eps * 20


def test_padding_that_differs_by_side_is_placed_as_onnx_does():
    x, w = torch.randn(1, 1, 4, 5), torch.randn(1, 1, 2, 2)
    bounded = bound_of("Conv", x, w, pads=[1, 0, 0, 2])
    expected = F.conv2d(F.pad(x.double(), [0, 2, 1, 0]), w.double())
    torch.testing.assert_close(bounded.value, expected)


def test_batch_norm_in_every_form_lies_within_its_bound():
    channels = 64
    x = 10 * torch.randn(16, channels, 5, 5)
    weight, bias, mean = torch.randn(channels), torch.randn(channels), torch.randn(channels) * 10
    variance = torch.rand(channels) + 1e-3
    bounded = bound_of("BatchNormalization", x, weight, bias, mean, variance, epsilon=1e-5)
    per_channel = [t.reshape(1, -1, 1, 1) for t in (weight, bias, mean, variance)]
    w, b, m, v = per_channel
    alpha = w / (v + 1e-5).sqrt()
    forms = [
        F.batch_norm(x, mean, variance, weight, bias, eps=1e-5),
        (x - m) * alpha + b,
        x * alpha + (b - m * alpha),
        (x - m) / (v + 1e-5).sqrt() * w + b,
        (x - m) * (1 / (v + 1e-5).sqrt()) * w + b,
    ]
    for form in forms:
        assert bool(((form.double() - bounded.value).abs() <= bounded.error).all())


def test_errors_of_inputs_grow_through_layers():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["c"]),
        helper.make_node("Add", ["c", "a"], ["d"]),
        helper.make_node("Mul", ["d", "d"], ["e"]),
    ]
    graph = helper.make_model(helper.make_graph(nodes, "chain", [], []))
    x, w = torch.randn(50, 16), torch.randn(16, 16)
    bounded = evaluate(graph, {"x": x, "w": w})["e"]

    def chain(x, w):
        a = x @ w
        d = a.relu() @ w + a
        return d * d

    torch.testing.assert_close(bounded.value, chain(x.double(), w.double()), rtol=1e-12, atol=1e-12)
    order = torch.randperm(16)
    back = order.argsort()
    shuffled = (x[:, order] @ w[order])[:, order].relu() @ w[order] + x @ w
    for other in (chain(x, w), shuffled * shuffled):
        assert bool(((other.double() - bounded.value).abs() <= bounded.error).all())
    assert torch.equal(order[back], torch.arange(16))


OPERATIONS = [("Add", torch.add), ("Sub", torch.sub), ("Mul", torch.mul), ("Div", torch.div)]


@pytest.mark.parametrize(("op_type", "function"), OPERATIONS)
def test_one_operation_is_exact_where_its_result_is_a_float32(op_type, function):
    a, b = torch.randint(-99, 99, (200,)).float(), 2.0 ** torch.randint(-4, 4, (200,))
    bounded = bound_of(op_type, a, b)
    assert bounded.is_exact
    assert torch.equal(bounded.value.float(), function(a, b))


@pytest.mark.parametrize(("op_type", "function"), OPERATIONS)
def test_one_operation_may_round_and_a_factor_may_be_one_float32_off(op_type, function):
    a, b = torch.randn(200), torch.randn(200)
    bounded = bound_of(op_type, a, b)
    operands = [b]
    if op_type in ("Mul", "Div"):
        operands += [b.nextafter(torch.tensor(end)) for end in (torch.inf, -torch.inf)]
    for operand in operands:
        difference = (function(a, operand).double() - bounded.value).abs()
        assert bool((difference <= bounded.error).all())


@pytest.mark.parametrize("exponent", [0.5, -0.5, 2.0])
def test_powers_lie_within_their_bound(exponent):
    base = torch.rand(200) + 0.01
    bounded = bound_of("Pow", base, torch.tensor(exponent))
    found = torch.from_numpy(np.power(base.numpy(), np.float32(exponent)))
    for other in (base.pow(exponent), found):
        assert bool(((other.double() - bounded.value).abs() <= bounded.error).all())


@pytest.mark.parametrize(
    ("op_type", "attributes", "function"),
    [
        ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
         lambda x: F.max_pool2d(x, 3, 2, 1)),
        ("AveragePool", {"kernel_shape": [3, 3], "strides": [1, 1]},
         lambda x: F.avg_pool2d(x, 3, 1)),
        ("GlobalAveragePool", {}, lambda x: x.mean((2, 3), keepdim=True)),
        ("ReduceMean", {"axes": [2, 3], "keepdims": 0}, lambda x: x.mean((2, 3))),
        ("Flatten", {"axis": 1}, lambda x: x.flatten(1)),
        ("Transpose", {"perm": [0, 2, 3, 1]}, lambda x: x.permute(0, 2, 3, 1)),
        ("Relu", {}, torch.relu),
        ("Identity", {}, lambda x: x),
        ("Concat", {"axis": 1}, lambda x: x),
        ("Cast", {"to": TensorProto.FLOAT}, lambda x: x),
        ("Squeeze", {"axes": [0]}, lambda x: x),
        ("Unsqueeze", {"axes": [0, 2]}, lambda x: x[None, :, None]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_other_operators_agree_with_pytorch(op_type, attributes, function):
    x = torch.randn(2, 3, 6, 7)
    bounded = bound_of(op_type, x, **attributes)
    expected = function(x.double())
    torch.testing.assert_close(bounded.value, expected, rtol=1e-12, atol=1e-12)
    assert bool(((function(x).double() - expected).abs() <= bounded.error).all())


def test_means_over_powers_of_two_of_integers_have_no_error():
    x = torch.randint(-100, 100, (2, 3, 4, 4)).float()
    assert bound_of("GlobalAveragePool", x).is_exact
    assert not bound_of("GlobalAveragePool", x[:, :, :3, :3]).is_exact


def test_nothing_is_claimed_behind_an_unknown_operator():
    nodes = [helper.make_node("Sigmoid", ["x"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    graph = helper.make_model(helper.make_graph(nodes, "unknown", [], []))
    bounded = evaluate(graph, {"x": torch.zeros(1)})
    assert set(bounded) == {"x"}
    assert unbounded_operators(graph, bounded) == ["Sigmoid"]


@given(st.floats(-1e30, 1e30), st.floats(0, 1e20))
def test_the_interval_is_rounded_outward(value, error):
    low, high = outward(Bounded(*torch.tensor([[value], [error]], dtype=torch.float64)))
    assert float(low) <= value - error
    assert float(high) >= value + error


def test_an_exact_float32_number_is_its_own_interval():
    x = torch.randn(100)
    low, high = outward(exactly(x))
    assert torch.equal(low, x)
    assert torch.equal(high, x)


@given(st.integers(-(2**24) + 1, 2**24 - 1), st.integers(-60, 60))
def test_the_quantum_divides_the_number_and_is_the_largest(integer, exponent):
    x = torch.tensor([integer * 2.0**exponent], dtype=torch.float64)
    found = float(quantum_exponent(x))
    if integer == 0:
        assert found == torch.inf
    else:
        assert Fraction(float(x)) / Fraction(2) ** int(found) % 2 == 1
