"""What devices differ in, the formulas leave out: a GPU divides by a number by multiplying."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from brevitas_ftprop.kernels import Asked, Integers, Needs, Operands, Sign
from brevitas_ftprop.kernels.backends import eager
from brevitas_ftprop.kernels.codes import encode_slope, unit_of
from brevitas_ftprop.rules import get_rule
from tests.kernels.steps_under_test import CASES, inputs

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class _DividesAsAGpu(TorchDispatchMode):
    """Makes of a division by a number the product with its inverse."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in ("div", "div_", "true_divide") and len(args) == 2:
            tensor, divisor = args
            is_number = isinstance(divisor, int | float) or (
                isinstance(divisor, Tensor) and divisor.dim() == 0 and tensor.dim() > 0
            )
            if is_number and isinstance(tensor, Tensor) and tensor.dtype in FLOATS:
                wide = torch.float64 if tensor.dtype is torch.float64 else torch.float32
                inverse = 1 / torch.as_tensor(divisor, dtype=wide)
                product = tensor.to(wide).mul(inverse).to(tensor.dtype)
                return tensor.copy_(product) if func.overloadpacket.__name__ == "div_" else product
        return func(*args, **(kwargs or {}))


# Integers have another way on a GPU, where bounds are no numbers.
ELSEWHERE = [name for name, case in CASES.items() if not isinstance(case.step, Integers)]


@pytest.mark.parametrize("weighting", ["grad", "mean"])
@pytest.mark.parametrize("rule", ["hinge", "square", "soft_hinge", "truncated_log_hinge"])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_gradients_do_not_depend_on_how_a_device_divides_by_a_number(name, rule, weighting):
    case = CASES[name]
    x, grad = inputs(case, torch.float32)
    operands = case.operands()
    if operands.scale is not None and operands.scale.dim() == 0:
        operands = operands._replace(scale=operands.scale.view(1, 1, 1, 1))
    rest = grad, x, operands, get_rule(rule), Asked(weighting, Needs(), 7)
    expected = eager.backward(case.step, *rest).x
    with _DividesAsAGpu():
        actual = eager.backward(case.step, *rest).x
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("rule", ["soft_hinge", "lecun_tanh", "sigmoid"])
def test_codes_do_not_depend_on_how_a_device_divides_by_a_number(rule):
    step, known = Sign(), get_rule(rule)
    smallest, unit = unit_of(step, Operands(), known)
    # Where a code is rounded up or down, a few floats to either side.
    ties = torch.arange(255, dtype=torch.float64).add(0.5).mul(unit).add(smallest).float()
    around = [ties]
    for direction in (-torch.inf, torch.inf):
        neighbour = ties
        for _ in range(3):
            neighbour = torch.nextafter(neighbour, torch.tensor(direction))
            around.append(neighbour)
    slopes = torch.cat(around)
    expected = encode_slope(step, slopes.clone(), Operands(), known)
    with _DividesAsAGpu():
        assert torch.equal(encode_slope(step, slopes.clone(), Operands(), known), expected)


def test_the_width_of_integers_is_divided_by_as_a_tensor_where_numbers_are_not_divided_by():
    step = Integers("round", "single")
    x = torch.linspace(-3, 3, 6001)
    operands = Operands(*map(torch.tensor, (0.3, 0.0, -3.0, 3.0)))
    expected = step.free_unit(x, operands)
    width = torch.tensor([3.5])
    centred = x / torch.tensor([0.3])
    assert torch.equal(expected, centred / width)
    assert not torch.equal(expected, centred * (1 / width))
    divided = []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.overloadpacket.__name__ == "div_":
                divided.append((type(args[1]), args[1].device.type))
            return func(*args, **(kwargs or {}))

    with Watching():
        step.free_unit(x.to("meta"), operands)
    assert divided == [(Tensor, "meta")]


def test_the_weight_of_the_mean_is_the_same_either_way():
    for batch_size in range(1, 3000):
        for dtype in (torch.float32, torch.bfloat16):
            one = torch.ones((), dtype=dtype)
            inverse = torch.ones((), dtype=torch.float32) / batch_size
            assert one / batch_size == inverse.to(dtype) == (1 / batch_size * one)
