"""What Triton's kernels ask of a device, and what they refuse."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from brevitas_ftprop.kernels import Asked, Integers, Keep, Needs, Operands, Sign, choose_backend
from brevitas_ftprop.kernels.backend import AUTOMATIC
from brevitas_ftprop.kernels.backends import triton_backend
from brevitas_ftprop.kernels.backends.triton_backend import launch
from brevitas_ftprop.ops import binary_sign, int_quantize
from brevitas_ftprop.rules import Rule, SaturatedSte, get_rule
from tests.kernels.on_triton import (
    DEVICE,
    STEPS,
    needs_kernels,
    needs_of,
    number,
    operands_of,
    silent,
)

pytestmark = [pytest.mark.heavy, needs_kernels, silent]


REPO = Path(__file__).resolve().parents[2]


def run_python(*arguments: str, environment: dict[str, str]) -> str:
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPO,
        env=environment,
        timeout=1800,
    ).stdout


class _NoWaiting(TorchDispatchMode):
    """Refuses whatever reads a tensor's values on the host, and computing beside the kernels."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        allowed = (
            "empty",
            "new_empty",
            "empty_like",
            "promote_types",
            "result_type",
            "sum",
            "view",
        )
        assert name in allowed, f"{name} was called beside the kernels"
        return func(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device_and_a_pass_launches_two_kernels_at_most(monkeypatch):
    launched = []
    monkeypatch.setattr(
        launch.Launch, "__call__", lambda self, *tensors: launched.append(self.kernel.__name__)
    )
    x = torch.randn(4, 5, 6, device=DEVICE)
    grad = torch.randn_like(x)
    for step in STEPS:
        for shape in ((), (5, 1)):
            operands = operands_of(step, torch.rand(shape, device=DEVICE))
            rule = get_rule("hinge")
            # What a code stands for is found out once, on the host.
            triton_backend.forward(step, x, operands, rule, Keep.CODE)
            launched.clear()
            with _NoWaiting():
                choose_backend("triton", DEVICE, step, operands, rule)
                _, code = triton_backend.forward(step, x, operands, rule, Keep.CODE)
                triton_backend.backward(step, grad, code, operands, rule, Asked("grad", Needs(), 4))
                assert launched == ["forward_pass", "backward_pass"]
                launched.clear()
                triton_backend.backward(
                    step, grad, x, operands, rule, Asked("mean", needs_of(step), 4)
                )
            assert launched[0] == "backward_pass"
            # One sum is torch's own.
            assert launched[1:] == (["add_up"] if needs_of(step).bounds else [])
            launched.clear()


def test_the_operators_take_the_backend_and_learn_their_operands_through_it():
    x = torch.randn(4, 3, 5, 5, device=DEVICE).to(memory_format=torch.channels_last)
    results = []
    for backend in ("triton", "eager"):
        leaf = x.clone().requires_grad_()
        scale = torch.full((1, 3, 1, 1), 0.4, device=DEVICE, requires_grad=True)
        lo, hi = number(-2.0).requires_grad_(), number(1.0).requires_grad_()
        zero_point = number(0.0).requires_grad_()
        z = binary_sign(leaf, scale, "saturated_ste", "grad", backend=backend)
        z = int_quantize(
            z + leaf, scale, zero_point, lo, hi, "hinge", "mean", "single", backend=backend
        )
        z = binary_sign(z + leaf, number(1.0), "soft_hinge", "grad", "compact", backend)
        (z * torch.arange(5, device=DEVICE)).sum().backward()
        results.append([leaf.grad, scale.grad, zero_point.grad, lo.grad, hi.grad])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_what_has_no_kernel_is_named_and_never_computed_otherwise():
    class Narrow(SaturatedSte):
        name = "saturated_ste"

    class Mine(Rule):
        name = "mine"

    step, known = Integers("round", "single"), get_rule("saturated_ste")
    operands = operands_of(step)

    def reason(operands: Operands, rule: Rule = known) -> str | None:
        return triton_backend.reason_against(DEVICE, step, operands, rule)

    assert reason(operands) is None
    assert reason(operands, Mine()) == "rule mine has no Triton slope"
    assert reason(operands, Narrow()) == "rule saturated_ste has no Triton slope"
    both = operands._replace(scale=torch.ones(3, 4, device=DEVICE))
    assert "too many dimensions" in reason(both)
    with pytest.raises(ValueError, match=r"backend=triton cannot compute.*too many dimensions"):
        choose_backend("triton", DEVICE, step, both, known)
    other = operands._replace(
        scale=torch.ones(3, 1, device=DEVICE), zero_point=torch.ones(4, device=DEVICE)
    )
    assert "different dimensions" in reason(other)
    assert "dimensions" in reason(operands._replace(lo=torch.ones(3, device=DEVICE)))
    assert "floating-point" in reason(operands._replace(lo=torch.tensor(1, device=DEVICE)))
    assert "not on the" in reason(operands._replace(lo=torch.ones((), device="meta")))


def test_the_interpreter_is_for_those_who_ask_for_it(monkeypatch):
    cpu = torch.device("cpu")
    what = Sign(), Operands(torch.tensor(1.0)), get_rule("hinge")
    assert choose_backend("auto", cpu, *what) is not triton_backend
    assert AUTOMATIC["cuda"][0] == "triton"
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert "CUDA device" in (triton_backend.reason_against(cpu, *what) or "")


def test_triton_is_imported_when_a_step_is_first_computed_by_it():
    code = "\n".join(
        (
            "import sys",
            "sys.modules['triton'] = None",
            "import torch",
            "from brevitas_ftprop.kernels import Operands, Sign, choose_backend",
            "from brevitas_ftprop.kernels.backends import triton_backend",
            "from brevitas_ftprop.rules import get_rule",
            "what = Sign(), Operands(torch.tensor(1.0)), get_rule('hinge')",
            "print(triton_backend.reason_against(torch.device('cpu'), *what))",
            "assert not torch.cuda.is_initialized()",
        )
    )
    printed = run_python("-c", code, environment=os.environ | {"TRITON_INTERPRET": "1"})
    assert printed.startswith("Triton cannot be imported")


def compiled(tmp_path: Path, *arguments: str) -> int:
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(REPO)}
    environment.pop("TRITON_INTERPRET", None)
    return int(run_python("tests/kernels/compile_kernels.py", *arguments, environment=environment))


def test_the_kernels_compile_to_machine_code_where_there_is_no_gpu(tmp_path):
    assert compiled(tmp_path, "90") > 10


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["80", "90"])
def test_all_kinds_of_kernels_compile(capability, tmp_path):
    assert compiled(tmp_path, capability, "all") > 100
