"""Triton's kernels with tensors and operands of all kinds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from brevitas_ftprop.kernels import Asked, Integers, Keep, Needs, Sign, Ternary
from brevitas_ftprop.kernels.backends import eager, triton_backend
from brevitas_ftprop.kernels.backends.triton_backend import launch, planned_passes, prepare
from brevitas_ftprop.rules import get_rule
from tests.kernels.on_triton import (
    DEVICE,
    TOLERANCE,
    assert_equal,
    assert_gradients_equal,
    gradient_like,
    needs_kernels,
    needs_of,
    operands_of,
    silent,
)

pytestmark = [needs_kernels, silent, pytest.mark.heavy]


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the kernels that were launched."""
    names = []
    start = launch.Launch.__call__

    def counting(self, *tensors):
        names.append(self.kernel.__name__)
        start(self, *tensors)

    monkeypatch.setattr(launch.Launch, "__call__", counting)
    return names


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """For what plans depend on and do not ask again."""
    monkeypatch.setattr(planned_passes, "PLANS", {})
    return monkeypatch


def layouts() -> Iterator[tuple[str, Tensor, tuple[int, ...]]]:
    """Tensors with the shapes of operands that fit them."""
    x = torch.randn(3, 5, 4, 7)
    yield "scalar", x, ()
    yield "one_element", x, (1,)
    yield "one_for_each_channel", x, (1, 5, 1, 1)
    yield "one_for_each_channel_from_the_right", x, (5, 1, 1)
    yield "weights", torch.randn(5, 3, 3, 3), (5, 1, 1, 1)
    yield "last_dimension", torch.randn(37, 5), (1, 5)
    yield "rows", torch.randn(5, 70), (5, 1)
    yield "channels_last", x.to(memory_format=torch.channels_last), (1, 5, 1, 1)
    yield "weights_channels_last", x.to(memory_format=torch.channels_last), (3, 1, 1, 1)
    yield "width_channels_last", x.to(memory_format=torch.channels_last), (7,)
    x = torch.randn(2, 5, 3, 2, 3).to(memory_format=torch.channels_last_3d)
    yield "channels_last_3d", x, (1, 5, 1, 1, 1)
    yield "permuted", torch.randn(4, 5, 3).permute(2, 1, 0), (5, 1)
    yield "permuted_channel_outermost", torch.randn(5, 3, 7, 4).permute(1, 0, 3, 2), (1, 5, 1, 1)
    yield "permuted_channel_innermost", torch.randn(3, 7, 5).permute(2, 0, 1), (5, 1, 1)
    yield "no_dimension", torch.tensor(0.2), ()
    yield "many_channels", torch.randn(3, 70), (70,)


LAYOUTS = {name: rest for name, *rest in layouts()}


# One operand to sum for, and several; with a code of two values, of many, and with bounds.
SUMMED = {
    "sign": (Sign(), "saturated_ste(width=1.5)"),
    "ternary, sum": (Ternary(0.5, "sum"), "soft_hinge"),
    "round, single": (Integers("round", "single"), "saturated_ste"),
    "relu, sum": (Integers("round", "sum", relu=True), "hinge"),
}


@pytest.mark.parametrize("summed", SUMMED)
@pytest.mark.parametrize(
    ("layout", "block"),
    [*((layout, 64) for layout in LAYOUTS), ("scalar", 2048), ("weights", 2048), ("rows", 2048)],
)
@pytest.mark.cover(1)
def test_gradients_of_operands_are_summed_over_what_they_are_spread_over(
    layout, block, summed, anew, launches
):
    anew.setattr(prepare, "BLOCK", block)
    x, shape = LAYOUTS[layout]
    x = x.to(DEVICE)
    scale = torch.rand(shape, device=DEVICE) + 0.2
    grad = gradient_like(x.contiguous())
    step, name = SUMMED[summed]
    zero_point = torch.randn(shape if step.form == "single" else (), device=DEVICE).round()
    operands, rule = operands_of(step, scale, zero_point), get_rule(name)
    y, code = triton_backend.forward(step, x, operands, rule, Keep.CODE)
    expected, code_of_eager = eager.forward(step, x, operands, rule, Keep.CODE)
    assert_equal(y, expected)
    if rule.two_valued:
        assert torch.equal(code, code_of_eager)
    launches.clear()
    rest = grad, x, operands, rule, Asked("grad", needs_of(step), 1)
    assert_gradients_equal(triton_backend.backward(step, *rest), eager.backward(step, *rest), x)
    # One sum is torch's own.
    assert launches == ["backward_pass"] + ["add_up"] * isinstance(step, Integers)


def test_a_zero_point_for_each_channel_goes_with_one_scale():
    x = torch.randn(4, 5, 6, device=DEVICE)
    zero_point = torch.randn(5, 1, device=DEVICE).round()
    step = Integers("round", "single")
    operands = operands_of(step, None, zero_point)
    rest = (
        gradient_like(x),
        x,
        operands,
        get_rule("saturated_ste"),
        Asked("grad", needs_of(step), 1),
    )
    assert_gradients_equal(triton_backend.backward(step, *rest), eager.backward(step, *rest), x)


def test_operands_need_not_be_dense():
    x = torch.randn(4, 5, 6, device=DEVICE)
    scale = (torch.rand(6, 10, device=DEVICE) + 0.2)[::6, ::2]
    step, rule = Integers("round", "single"), get_rule("saturated_ste")
    operands = operands_of(step, scale.T, torch.zeros(1, 1, device=DEVICE).expand(5, 1))
    y, _ = triton_backend.forward(step, x, operands, rule, Keep.INPUT)
    assert_equal(y, eager.forward(step, x, operands, rule, Keep.INPUT)[0])
    rest = y, x, operands, rule, Asked("grad", needs_of(step), 1)
    assert_gradients_equal(triton_backend.backward(step, *rest), eager.backward(step, *rest), x)


@pytest.mark.parametrize("elements", [0, 1, 7, 8, 9, 63, 65, 2049])
def test_tensors_of_any_size_go_through(elements, anew):
    anew.setattr(prepare, "BLOCK", 512)
    x = torch.randn(elements, device=DEVICE)
    for step in (Sign(), Integers("round", "single")):
        operands, rule = operands_of(step), get_rule("hinge")
        y, code = triton_backend.forward(step, x, operands, rule, Keep.CODE)
        expected, code_of_eager = eager.forward(step, x, operands, rule, Keep.CODE)
        assert_equal(y, expected)
        assert torch.equal(code, code_of_eager)
        for kept, needs in ((x, needs_of(step)), (code, Needs())):
            rest = gradient_like(x), kept, operands, rule, Asked("grad", needs, elements)
            assert_gradients_equal(
                triton_backend.backward(step, *rest), eager.backward(step, *rest), x
            )


def test_offsets_beyond_32_bits_are_computed_in_64(anew):
    anew.setattr(prepare, "LARGE", 0)
    anew.setattr(prepare, "BLOCK", 64)
    x = torch.randn(6, 5, 7, device=DEVICE)
    for step, scale in ((Sign(), torch.rand(5, 1)), (Integers("round", "sum"), torch.rand(7))):
        operands, rule = operands_of(step, scale.to(DEVICE) + 0.2), get_rule("hinge")
        y, code = triton_backend.forward(step, x, operands, rule, Keep.CODE)
        expected, code_of_eager = eager.forward(step, x, operands, rule, Keep.CODE)
        assert_equal(y, expected)
        assert torch.equal(code, code_of_eager)
        for kept, needs in ((x, needs_of(step)), (code, Needs())):
            rest = gradient_like(x), kept, operands, rule, Asked("grad", needs, 6)
            assert_gradients_equal(
                triton_backend.backward(step, *rest), eager.backward(step, *rest), x
            )


@pytest.mark.parametrize("x_dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("scale_dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (3, 1)], ids=str)
@pytest.mark.cover(1)
def test_dtypes_meet_as_torch_promotes_them(x_dtype, scale_dtype, shape):
    x = torch.cat([torch.randn(81), torch.arange(-15, 15) / 4 * 0.3]).view(3, -1)
    x = x.to(x_dtype).to(DEVICE)
    scale = torch.full(shape, 0.3, dtype=scale_dtype, device=DEVICE)
    for step, name in (
        (Sign(), "saturated_ste"),
        (Ternary(0.7, "single"), "truncated_perceptron"),
        (Integers("round", "single"), "hinge"),
    ):
        operands, rule = operands_of(step, scale), get_rule(name)
        y, _ = eager.forward(step, x, operands, rule, Keep.INPUT)
        assert_equal(triton_backend.forward(step, x, operands, rule, Keep.INPUT)[0], y)
        rest = gradient_like(y), x, operands, rule, Asked("mean", Needs(True), 3)
        expected, actual = eager.backward(step, *rest), triton_backend.backward(step, *rest)
        assert_equal(actual.x, expected.x)
        assert actual.scale.dtype is scale_dtype


@pytest.mark.skipif(DEVICE.type != "cpu", reason="the GPU's own way is what a GPU compares with")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_gpu_rounds_a_scale_to_the_dtype_of_the_input(dtype, anew):
    anew.setattr(prepare, "on_cpu", lambda device: False)
    x = torch.cat([torch.randn(80), torch.arange(-15, 15) / 4 * 0.3]).to(dtype)
    for step in (Sign(), Integers("round", "single"), Ternary(0.5, "sum")):
        operands, rule = operands_of(step), get_rule("truncated_hinge")
        rounded = operands._replace(scale=operands.scale.to(dtype))
        y, _ = triton_backend.forward(step, x, operands, rule, Keep.INPUT)
        assert_equal(y, eager.forward(step, x, rounded, rule, Keep.INPUT)[0])
        rest = rule, Asked("grad", Needs(), 1)
        actual = triton_backend.backward(step, y, x, operands, *rest)
        assert_equal(actual.x, eager.backward(step, y, x, rounded, *rest).x)
