"""The Triton backend equals eager: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from brevitas_ftprop.kernels import (
    Integers,
    Needs,
    Operands,
    PaperStaircase,
    Sign,
    Step,
    Ternary,
    choose_backend,
    codable,
    constant,
    eager,
    error_bound,
    fused,
)
from brevitas_ftprop.kernels.backend import AUTOMATIC
from brevitas_ftprop.kernels.codes import is_two_valued
from brevitas_ftprop.kernels.fused import prepare
from brevitas_ftprop.ops import binary_sign, int_quantize
from brevitas_ftprop.rules import RULES, Rule, SaturatedSte, get_rule

pytest.importorskip("triton", reason="the backend needs Triton")
REPO = Path(__file__).resolve().parents[2]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
REASON = fused.reason_against(DEVICE, Sign(), Operands(), get_rule("ste"))
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=f"no Triton kernels here: {REASON}"),
    # The interpreter computes in NumPy, which speaks of the infinities that the tests are about.
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

BUILT_IN = [name for name, rule in RULES.items() if rule.__module__.startswith("brevitas_ftprop")]
# Slopes of an exponential or a quotient; the others equal eager's to the bit in every dtype.
SMOOTH = {
    "ede",
    "lecun_tanh",
    "log_hinge",
    "log_sigmoid",
    "logistic",
    "reste",
    "sigmoid",
    "soft_hinge",
    "swish_sign",
    "truncated_log_hinge",
    "truncated_logistic",
}
# Of a smooth slope, relative to its largest value: a few roundings of eager's, which rounds every
# operation to the dtype where the kernels round the slope alone.
TOLERANCE = {
    torch.float64: 1e-14,
    torch.float32: 2e-6,
    torch.bfloat16: 6e-2,
    torch.float16: 6e-3,
}
STEPS = (
    Sign(),
    Ternary(0.5, "single"),
    Ternary(0.7, "sum"),
    Integers("round", "single"),
    Integers("round", "sum"),
    Integers("ceil", "single", relu=True),
    Integers("floor", "sum", relu=True),
    PaperStaircase(3, 1.5, "single"),
    PaperStaircase(5, 1.0, "sum"),
)


def number(value: float, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(value, dtype=dtype, device=DEVICE)


def operands_of(step: Step, scale: Tensor | None = None, zero_point: Tensor | None = None):
    if isinstance(step, PaperStaircase):
        return Operands()
    scale = number(0.3) if scale is None else scale
    if not isinstance(step, Integers):
        return Operands(scale)
    zero_point = number(1.0) if zero_point is None else zero_point
    return Operands(scale, zero_point, number(-1.0), number(3.0))


def needs_of(step: Step) -> Needs:
    return Needs(not isinstance(step, PaperStaircase), *(isinstance(step, Integers),) * 2)


def edges(dtype: torch.dtype) -> Tensor:
    """Kinks, thresholds and ties at scale 0.3 and at none, and what lies beyond a dtype."""
    largest = torch.finfo(dtype).max
    inf, nan = float("inf"), float("nan")
    grid = torch.arange(-16, 17, dtype=torch.float64) / 8
    extreme = torch.tensor([0.0, -0.0, inf, -inf, largest, -largest, nan], dtype=torch.float64)
    between = torch.randn(40, dtype=torch.float64)
    return torch.cat([grid, grid * 0.3, between, extreme]).to(dtype).to(DEVICE)


def gradient_like(x: Tensor) -> Tensor:
    grad = torch.randn(x.shape, dtype=torch.float64).to(x)
    grad.view(-1)[::7] = 0
    return grad


def assert_equal(actual: Tensor, expected: Tensor, tolerance: float = 0.0) -> None:
    """Equal, or as near as ``tolerance`` times the largest finite value."""
    finite = expected[expected.isfinite()]
    largest = float(finite.abs().max()) if finite.numel() else 0.0
    torch.testing.assert_close(
        actual, expected, rtol=0, atol=tolerance * largest, equal_nan=True, check_stride=True
    )


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the kernels that were launched."""
    names = []

    def counting(kernel, *rest):
        names.append(kernel.__name__)
        prepare.launch(kernel, *rest)

    monkeypatch.setattr(fused, "launch", counting)
    return names


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", BUILT_IN)
def test_a_rule_passes_what_it_passes_in_eager(name, dtype):
    rule = get_rule(name)
    tolerance = TOLERANCE[dtype] if name in SMOOTH else 0.0
    x = edges(dtype)
    grad = gradient_like(x)
    # Interpreted kernels take long: every step meets either weighting with half of the rules.
    for i, step in enumerate(STEPS[:: 1 if dtype is torch.float32 else 2]):
        operands = operands_of(step)
        y, _ = eager.forward(step, x, operands, rule, False)
        assert_equal(fused.forward(step, x, operands, rule, False)[0], y)
        weighting = ("grad", "mean")[(i + BUILT_IN.index(name)) % 2]
        rest = grad, x, operands, rule, weighting, Needs(), 4
        expected = eager.backward(step, *rest).x
        assert_equal(fused.backward(step, *rest).x, expected, tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", [name for name in BUILT_IN if codable(get_rule(name))])
def test_each_of_the_backends_reads_the_code_that_the_other_wrote(name, dtype):
    rule = get_rule(name)
    x = edges(dtype)
    x = x[x.isfinite()]
    grad = gradient_like(x)
    for step in STEPS[:: 1 if dtype is torch.float32 else 3]:
        operands = operands_of(step)
        y, code = fused.forward(step, x, operands, rule, True)
        expected, code_of_eager = eager.forward(step, x, operands, rule, True)
        assert_equal(y, expected)
        if is_two_valued(step, rule):
            assert torch.equal(code, code_of_eager)
        for each in (code, code_of_eager):
            rest = each, operands, rule, "mean", Needs(), 4
            by_eager = eager.backward(step, grad, *rest).x
            assert_equal(fused.backward(step, grad, *rest).x, by_eager, 1e-6)
        target = eager.sign_target(step.enter(grad, operands))
        coded = eager.decode(step, code, operands, rule, None if rule.even else target, grad)
        exact = step.slope(x, operands, rule, target)
        exact = exact if step.gate(x) is None else exact * step.gate(x)
        assert code.dtype is torch.uint8
        bound = error_bound(step, operands, rule) + TOLERANCE[dtype] * float(exact.abs().max())
        # Where the gradient is 0 there is no target, and any slope will do.
        assert float(((coded - exact).abs() * grad.ne(0)).max()) <= bound


@pytest.mark.parametrize(
    "name", ["ede", "reste", "truncated_hinge(scale=0.3)", "sigmoid(x_scale=9)"]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_parameters_reach_the_kernels_in_full_precision(name, dtype):
    x = edges(dtype)
    grad = gradient_like(x)
    for progress in (0.0, 0.37, 1.0):
        rule = get_rule(name).at(progress)
        rest = grad, x, operands_of(Sign()), rule, "grad", Needs(), 1
        expected = eager.backward(Sign(), *rest).x
        assert_equal(fused.backward(Sign(), *rest).x, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("rounding", ["round", "ceil", "floor", "trunc"])
def test_integers_are_rounded_as_in_eager_zeros_of_either_sign_included(rounding, dtype):
    step = Integers(rounding, "single")
    x = torch.cat([torch.arange(-21, 22) / 4, torch.tensor([-0.0, 1e-3, -1e-3])])
    large = torch.tensor([2.0**22 + 0.5, -(2.0**22) - 0.5, 2.0**23 + 1, 2.0**52 + 1])
    x = torch.cat([x.double(), large.double()]).to(dtype).to(DEVICE)
    bound = number(1e9, torch.float64)
    operands = Operands(number(1.0), number(0.0), -bound, bound)
    if dtype is torch.float16:
        operands = operands._replace(lo=number(-60000.0), hi=number(60000.0))
    y, _ = fused.forward(step, x, operands, get_rule("ste"), False)
    expected, _ = eager.forward(step, x, operands, get_rule("ste"), False)
    assert_equal(y, expected)
    # Eager has found out, on a CPU, that there is no zero-point to be added to -0.
    some = x.ne(0)
    assert torch.equal(torch.signbit(y)[some], torch.signbit(expected)[some])


def test_a_rounding_of_the_callers_own_takes_the_place_of_ours():
    x = edges(torch.float32)
    x = x[x.isfinite() & (x.abs() < 1e9)]
    rounded = (x / 0.3 + 1).add(torch.rand_like(x)).floor()
    operands = operands_of(Integers("round", "single"))._replace(rounded=rounded)
    grad = gradient_like(x)
    for form, name in (("single", "saturated_ste"), ("single", "hinge"), ("sum", "hinge")):
        step, rule = Integers("round", form), get_rule(name)
        y, code = fused.forward(step, x, operands, rule, True)
        expected, code_of_eager = eager.forward(step, x, operands, rule, True)
        assert_equal(y, expected)
        assert torch.equal(code, code_of_eager)
        rest = grad, x, operands, rule, "grad", needs_of(step), 1
        assert_gradients_equal(fused.backward(step, *rest), eager.backward(step, *rest), x)


def assert_gradients_equal(actual, expected, x: Tensor, tolerance: float = 1e-6) -> None:
    assert_equal(actual.x, expected.x, tolerance)
    # Sums of x.numel() terms, some of each sign.
    slack = 1e-6 * x.numel() if x.dtype in (torch.float32, torch.float64) else 2e-2 * x.numel()
    for one, other in zip(actual[1:], expected[1:], strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(
                one, other.to(one.dtype), rtol=1e-5, atol=slack, check_dtype=False
            )


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
    yield "no_dimension", torch.tensor(0.2), ()
    yield "many_channels", torch.randn(3, 70), (70,)


LAYOUTS = {name: rest for name, *rest in layouts()}


@pytest.mark.parametrize(
    ("layout", "block"),
    [*((layout, 64) for layout in LAYOUTS), ("scalar", 2048), ("weights", 2048), ("rows", 2048)],
)
def test_gradients_of_operands_are_summed_over_what_they_are_spread_over(
    layout, block, monkeypatch, launches
):
    monkeypatch.setattr(fused, "BLOCK", block)
    x, shape = LAYOUTS[layout]
    x = x.to(DEVICE)
    scale = torch.rand(shape, device=DEVICE) + 0.2
    grad = gradient_like(x.contiguous())
    for step, name in (
        (Sign(), "saturated_ste(width=1.5)"),
        (Ternary(0.5, "sum"), "soft_hinge"),
        (Integers("round", "single"), "saturated_ste"),
        (Integers("round", "sum", relu=True), "hinge"),
    ):
        zero_point = torch.randn(shape if step.form == "single" else (), device=DEVICE).round()
        operands, rule = operands_of(step, scale, zero_point), get_rule(name)
        y, code = fused.forward(step, x, operands, rule, True)
        expected, code_of_eager = eager.forward(step, x, operands, rule, True)
        assert_equal(y, expected)
        if rule.two_valued:
            assert torch.equal(code, code_of_eager)
        launches.clear()
        rest = grad, x, operands, rule, "grad", needs_of(step), 1
        assert_gradients_equal(fused.backward(step, *rest), eager.backward(step, *rest), x)
        assert launches == ["backward_pass", "add_up"]


def test_a_zero_point_for_each_channel_goes_with_one_scale():
    x = torch.randn(4, 5, 6, device=DEVICE)
    zero_point = torch.randn(5, 1, device=DEVICE).round()
    step = Integers("round", "single")
    operands = operands_of(step, None, zero_point)
    rest = gradient_like(x), x, operands, get_rule("saturated_ste"), "grad", needs_of(step), 1
    assert_gradients_equal(fused.backward(step, *rest), eager.backward(step, *rest), x)


@pytest.mark.parametrize("elements", [0, 1, 7, 8, 9, 63, 65, 2049])
def test_tensors_of_any_size_go_through(elements, monkeypatch):
    monkeypatch.setattr(fused, "BLOCK", 512)
    x = torch.randn(elements, device=DEVICE)
    for step in (Sign(), Integers("round", "single")):
        operands, rule = operands_of(step), get_rule("hinge")
        y, code = fused.forward(step, x, operands, rule, True)
        expected, code_of_eager = eager.forward(step, x, operands, rule, True)
        assert_equal(y, expected)
        assert torch.equal(code, code_of_eager)
        for kept, needs in ((x, needs_of(step)), (code, Needs())):
            rest = gradient_like(x), kept, operands, rule, "grad", needs, elements
            assert_gradients_equal(fused.backward(step, *rest), eager.backward(step, *rest), x)


def test_a_constant_slope_needs_nothing_that_was_kept():
    grad = gradient_like(torch.randn(50, device=DEVICE))
    rule = get_rule("ste")
    for step in STEPS:
        if not constant(step, rule):
            continue
        rest = grad, None, operands_of(step), rule, "mean", Needs(), 50
        assert_equal(fused.backward(step, *rest).x, eager.backward(step, *rest).x)


def test_offsets_beyond_32_bits_are_computed_in_64(monkeypatch):
    monkeypatch.setattr(prepare, "LARGE", 0)
    monkeypatch.setattr(fused, "BLOCK", 64)
    x = torch.randn(6, 5, 7, device=DEVICE)
    for step, scale in ((Sign(), torch.rand(5, 1)), (Integers("round", "sum"), torch.rand(7))):
        operands, rule = operands_of(step, scale.to(DEVICE) + 0.2), get_rule("hinge")
        y, code = fused.forward(step, x, operands, rule, True)
        expected, code_of_eager = eager.forward(step, x, operands, rule, True)
        assert_equal(y, expected)
        assert torch.equal(code, code_of_eager)
        for kept, needs in ((x, needs_of(step)), (code, Needs())):
            rest = gradient_like(x), kept, operands, rule, "grad", needs, 6
            assert_gradients_equal(fused.backward(step, *rest), eager.backward(step, *rest), x)


@pytest.mark.parametrize("x_dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("scale_dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (3, 1)], ids=str)
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
        y, _ = eager.forward(step, x, operands, rule, False)
        assert_equal(fused.forward(step, x, operands, rule, False)[0], y)
        rest = gradient_like(y), x, operands, rule, "mean", Needs(True), 3
        expected, actual = eager.backward(step, *rest), fused.backward(step, *rest)
        assert_equal(actual.x, expected.x)
        assert actual.scale.dtype is scale_dtype


@pytest.mark.skipif(DEVICE.type != "cpu", reason="the GPU's own way is what a GPU compares with")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_gpu_rounds_a_scale_to_the_dtype_of_the_input(dtype, monkeypatch):
    def as_on_a_gpu(kernel, programs, device, given):
        changed = {"exact": False, "on_cpu": False} if "exact" in given else {}
        prepare.launch(kernel, programs, device, given | changed)

    monkeypatch.setattr(fused, "launch", as_on_a_gpu)
    x = torch.cat([torch.randn(80), torch.arange(-15, 15) / 4 * 0.3]).to(dtype)
    for step in (Sign(), Integers("round", "single"), Ternary(0.5, "sum")):
        operands, rule = operands_of(step), get_rule("truncated_hinge")
        rounded = operands._replace(scale=operands.scale.to(dtype))
        y, _ = fused.forward(step, x, operands, rule, False)
        assert_equal(y, eager.forward(step, x, rounded, rule, False)[0])
        rest = rule, "grad", Needs(), 1
        actual = fused.backward(step, y, x, operands, *rest)
        assert_equal(actual.x, eager.backward(step, y, x, rounded, *rest).x)


class _NoWaiting(TorchDispatchMode):
    """Refuses whatever reads a tensor's values on the host, and computing beside the kernels."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        allowed = ("empty", "new_empty", "empty_like", "promote_types", "result_type")
        assert name in allowed, f"{name} was called beside the kernels"
        return func(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device_and_a_pass_launches_two_kernels_at_most(monkeypatch):
    launched = []
    monkeypatch.setattr(fused, "launch", lambda kernel, *rest: launched.append(kernel.__name__))
    x = torch.randn(4, 5, 6, device=DEVICE)
    grad = torch.randn_like(x)
    for step in STEPS:
        for shape in ((), (5, 1)):
            operands = operands_of(step, torch.rand(shape, device=DEVICE))
            rule = get_rule("hinge")
            # What a code stands for is found out once, on the host.
            fused.forward(step, x, operands, rule, True)
            launched.clear()
            with _NoWaiting():
                choose_backend("triton", DEVICE, step, operands, rule)
                _, code = fused.forward(step, x, operands, rule, True)
                fused.backward(step, grad, code, operands, rule, "grad", Needs(), 4)
                assert launched == ["forward_pass", "backward_pass"]
                launched.clear()
                fused.backward(step, grad, x, operands, rule, "mean", needs_of(step), 4)
            assert launched[0] == "backward_pass"
            assert launched[1:] == (["add_up"] if any(needs_of(step)) else [])
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
        return fused.reason_against(DEVICE, step, operands, rule)

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
    assert choose_backend("auto", cpu, *what) is not fused
    assert AUTOMATIC["cuda"][0] == "triton"
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert "CUDA device" in (fused.reason_against(cpu, *what) or "")


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


def test_triton_is_imported_when_a_step_is_first_computed_by_it():
    code = "\n".join(
        (
            "import sys",
            "sys.modules['triton'] = None",
            "import torch",
            "from brevitas_ftprop.kernels import Operands, Sign, choose_backend, fused",
            "from brevitas_ftprop.rules import get_rule",
            "what = Sign(), Operands(torch.tensor(1.0)), get_rule('hinge')",
            "print(fused.reason_against(torch.device('cpu'), *what))",
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
