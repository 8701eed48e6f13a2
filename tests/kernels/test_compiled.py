"""The compiled backend against the eager one."""

import shutil

import pytest
import torch

from brevitas_ftprop import RULES
from brevitas_ftprop.kernels import Asked, Keep, Needs, codable
from brevitas_ftprop.kernels.backends import compiled, eager
from tests.kernels.steps_under_test import CASES, inputs

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler, g++"),
    pytest.mark.skipif(not compiled.COMPILABLE, reason=f"compiling needs torch {compiled.SINCE}"),
]

RULE_CLASSES = list(RULES.values())
COMPILABLE = {
    name: case
    for name, case in CASES.items()
    if compiled.reason_against(torch.device("cpu"), case.step, case.operands(), None) is None
}
# float32, whose exponentials and powers the compiler computes in its own way
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def assert_equal_to_eager(rule, case, kept_forms=(Keep.INPUT, Keep.HALF, Keep.CODE)):
    x, grad = inputs(case, torch.float32)
    x = x.nan_to_num(0.5).clamp(-9, 9)
    operands = case.operands()
    for keep in kept_forms if codable(rule) else kept_forms[:2]:
        (y, made), (expected, wanted) = (
            module.forward(case.step, x, operands, rule, keep) for module in (compiled, eager)
        )
        assert torch.equal(y, expected)
        assert ((made.int() - wanted.int()).abs() <= 1).all()
        kept = x if keep is Keep.INPUT else wanted
        needs = Needs() if keep is Keep.CODE else case.needs
        one, other = (
            module.backward(case.step, grad, kept, operands, rule, Asked("grad", needs, len(grad)))
            for module in (compiled, eager)
        )
        torch.testing.assert_close(one.x, other.x, **TOLERANCE)
        size = grad.abs().sum().item()
        for actual, sum_of_eager in zip(one[1:], other[1:], strict=True):
            if actual is not None:
                torch.testing.assert_close(actual, sum_of_eager, rtol=1e-5, atol=1e-5 * size)


@pytest.mark.heavy
def test_a_compiled_rule_computes_what_eager_does():
    # Each form takes the compiler seconds, codes most.
    assert_equal_to_eager(RULES["soft_hinge"](), CASES["relu, single"], kept_forms=(Keep.INPUT,))


@pytest.mark.heavy
def test_channels_last_is_compiled_too():
    case, rule = CASES["relu, single"], RULES["soft_hinge"]()
    x, grad = inputs(case, torch.float32)
    x = x.nan_to_num(0.5).clamp(-9, 9).contiguous(memory_format=torch.channels_last)
    operands = case.operands()
    y, _ = compiled.forward(case.step, x, operands, rule, Keep.INPUT)
    assert torch.equal(y, eager.forward(case.step, x, operands, rule, Keep.INPUT)[0])
    one, other = (
        module.backward(case.step, grad, x, operands, rule, Asked("grad", Needs(), len(grad)))
        for module in (compiled, eager)
    )
    torch.testing.assert_close(one.x, other.x, **TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILABLE)
@pytest.mark.parametrize("rule", RULE_CLASSES, ids=lambda rule: rule.name)
def test_every_compiled_rule_computes_what_eager_does(rule, name):
    assert_equal_to_eager(rule(), COMPILABLE[name])


def test_what_cannot_be_compiled_is_said(monkeypatch):
    case, rule = CASES["uint2, sum"], RULES["soft_hinge"]()
    what = torch.device("cpu"), case.step, case.operands(), rule
    assert "thresholds" in compiled.reason_against(*what)
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    assert "no-such-compiler:" in compiled.reason_against(*what)
