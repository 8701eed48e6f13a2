"""What the compact form keeps, and how far its gradients may lie from the exact ones."""

import itertools
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from brevitas_ftprop import RULES
from brevitas_ftprop.kernels import Keep, Operands, Sign, codable, code_size, error_bound
from brevitas_ftprop.kernels.codes import pack, unpack
from brevitas_ftprop.kernels.saved_forms import compact
from brevitas_ftprop.ops import binary_sign, int_quantize
from tests.kernels.on_triton import needs_kernels
from tests.kernels.steps_under_test import CASES, inputs

pytestmark = pytest.mark.heavy

RULE_CLASSES = list(RULES.values())
CODABLE = [rule for rule in RULE_CLASSES if codable(rule())]
ONE, ZERO, THREE = torch.tensor(1.0), torch.tensor(0.0), torch.tensor(3.0)


def kept_bytes(call, x):
    """Bytes of what an operator keeps for backward, operands of one element left out."""
    storages = {}

    def pack_hook(tensor):
        if tensor.numel() > 1:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack_hook, lambda tensor: tensor):
        call(x)
    return sum(storages.values())


@given(st.lists(st.booleans(), max_size=70))
def test_bits_come_out_of_their_bytes_as_they_went_in(bits):
    bits = torch.tensor(bits, dtype=torch.bool)
    code = pack(bits)
    assert len(code) == (len(bits) + 7) // 8
    assert torch.equal(unpack(code, len(bits), torch.float32), bits.float())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("rule", CODABLE, ids=lambda rule: rule.name)
def test_compact_gradients_lie_within_the_stated_bound(rule, name):
    case, rule = CASES[name], rule()
    x, grad = inputs(case, torch.float32)
    x = x.nan_to_num(0.5).clamp(-50, 50)
    gradients = []
    for saved in ("exact", "compact"):
        own = x.clone().requires_grad_()
        y, _ = torch.ops.brevitas_ftprop.quantize(
            own, *case.operands(), case.step.spec, rule.spec, "grad", saved, "auto"
        )
        gradients.append(torch.autograd.grad(y, own, grad)[0])
    exact, compact = gradients
    # What the step multiplies the slopes by.
    factor = {"sign": case.scale, "ternary": case.scale, "staircase": None, "integers": None}
    factor = factor[case.step.name]
    if factor is None:
        factor = torch.tensor(getattr(case.step, "max_val", 1.0))
    bound = error_bound(case.step, case.operands(), rule)
    roundings = 1e-6 * (bound + max(map(abs, rule.slope_range))) * case.step.count(case.operands())
    assert ((exact - compact).abs() <= grad.abs() * factor * (bound + roundings) + 1e-30).all()
    if rule.two_valued:
        torch.testing.assert_close(compact, exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "backend", ["eager", "blocked", pytest.param("triton", marks=needs_kernels)]
)
def test_codes_hold_what_rounds_out_of_range_and_more_units_than_a_byte_counts(backend):
    x = torch.full((8,), -0.0019, dtype=torch.bfloat16, requires_grad=True)
    scale = torch.tensor(0.3, dtype=torch.bfloat16)
    binary_sign(x, scale, "soft_hinge", "grad", "compact", backend).sum().backward()
    assert (x.grad - 0.3).abs().max() < 0.01
    x = torch.tensor([10.0, 300.0, 590.0], requires_grad=True)
    hi = torch.tensor(600.0)
    y = int_quantize(
        x, ONE, ZERO, ZERO, hi, "hinge", "grad", "sum", saved="compact", backend=backend
    )
    y.backward(-torch.ones(3))
    exact = x.detach().clone().requires_grad_()
    int_quantize(exact, ONE, ZERO, ZERO, hi, "hinge", "grad", "sum").backward(-torch.ones(3))
    assert ((x.grad - exact.grad).abs() <= 0.5 * 600 / 255 / 2 + 1e-4).all()


@pytest.mark.parametrize(
    ("rule", "share"),
    [
        ("saturated_ste", 1 / 32),
        ("hinge", 2 / 32),
        ("perceptron", 2 / 32),
        ("soft_hinge", 1 / 4),
        ("ramp", 1 / 4),
        ("logistic", 2 / 4),
        ("ste", 0),
        ("adaline", 1 / 2),
    ],
)
@pytest.mark.parametrize("quantizer", ["sign", "2 bits"])
def test_the_compact_form_keeps_a_bit_a_byte_or_half_a_float_an_element(quantizer, rule, share):
    calls = {
        "sign": lambda x: binary_sign(x, ONE, rule, "grad", "compact"),
        "2 bits": lambda x: int_quantize(
            x, ONE, ZERO, ZERO, THREE, rule, "grad", "single", saved="compact"
        ),
    }
    x = torch.randn(64, 1000, requires_grad=True)
    assert kept_bytes(calls[quantizer], x) == share * 4 * x.numel()


def test_the_exact_form_keeps_the_input_itself_and_nothing_for_the_ste():
    x = torch.randn(64, 1000, requires_grad=True)
    assert kept_bytes(lambda x: binary_sign(x, ONE, "soft_hinge", "grad"), x) == 4 * x.numel()
    assert kept_bytes(lambda x: binary_sign(x, ONE, "ste", "grad"), x) == 0


@pytest.mark.parametrize(
    ("dtype", "saved", "size"),
    [
        (torch.float32, "exact", 4),
        (torch.float32, "compact", 2),
        (torch.float64, "compact", 2),
        (torch.bfloat16, "compact", 2),
    ],
)
def test_a_learned_scale_keeps_the_input_or_half_of_it(dtype, saved, size):
    x = torch.randn(64, 1000, dtype=dtype, requires_grad=True)
    scale = torch.tensor(0.5, dtype=dtype, requires_grad=True)
    options = {"scale": scale, "rule": "soft_hinge", "weighting": "grad", "saved": saved}
    assert kept_bytes(partial(binary_sign, **options), x) == size * x.numel()


def test_the_input_is_kept_where_a_code_is_no_smaller():
    x = torch.randn(64, 1000, dtype=torch.bfloat16, requires_grad=True)
    for rule, size in (("logistic", 2), ("soft_hinge", 1)):
        call = partial(binary_sign, scale=ONE, rule=rule, weighting="grad", saved="compact")
        assert kept_bytes(call, x) == size * x.numel()


def rounded_to_odd(v):
    """By the two neighbours: the half itself where it is one, else the one that is odd."""
    nearest = v.half()
    low = torch.where(nearest.to(v.dtype) > v, torch.nextafter(nearest, -INFINITY), nearest)
    high = torch.where(low.to(v.dtype) < v, torch.nextafter(low, INFINITY), low)
    return torch.where(low.view(torch.int16) % 2 == 0, high, low).to(v.dtype)


INFINITY = torch.tensor(torch.inf, dtype=torch.float16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@given(st.lists(st.floats(-65504, 65504, width=32), min_size=1))
def test_a_half_stays_on_its_side_of_what_ten_bits_express(dtype, values):
    v = torch.tensor(values, dtype=dtype)
    half = compact(Keep.HALF, Sign(), v, Operands(), RULES["adaline"]()).view(torch.float16)
    is_normal = v.abs() >= 2**-14
    assert torch.equal(half[is_normal].to(dtype), rounded_to_odd(v[is_normal]))
    assert ((half - v).abs() <= torch.where(is_normal, v.abs() / 1024, 2**-24)).all()
    thresholds = torch.where(v.abs() < 512, (2 * v).round() / 2, 0.0)
    for threshold in (thresholds, torch.zeros(())):
        assert torch.equal(torch.sign(half - threshold), torch.sign(v - threshold))


@pytest.mark.parametrize("name", [name for name in CASES if "staircase" not in name])
@pytest.mark.parametrize("rule", RULE_CLASSES, ids=lambda rule: rule.name)
def test_compact_gradients_of_a_learned_scale_are_exact_ones_at_a_neighbour(rule, name):
    case, spec = CASES[name], rule().spec
    x, grad = inputs(case, torch.float32)
    x = x.nan_to_num(0.5).clamp(-9, 9)
    # What a half has fewer bits for.
    x[x.abs() < 1e-4] = 0.0
    case_operands = case.operands()
    half = rounded_to_odd(x / case_operands.scale) * case_operands.scale
    results = []
    for saved, value in (("compact", x), ("exact", half)):
        own, scale = value.clone().requires_grad_(), case_operands.scale.clone().requires_grad_()
        operands = case_operands._replace(scale=scale)
        y, _ = torch.ops.brevitas_ftprop.quantize(
            own, *operands, case.step.spec, spec, "grad", saved, "auto"
        )
        results.append(torch.autograd.grad(y, (own, scale), grad))
    for actual, expected in zip(*results, strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize(
    ("rule", "saved"),
    [("ste", "exact"), ("ste", "compact"), ("soft_hinge", "compact"), ("saturated_ste", "compact")],
)
def test_a_scale_learns_rightly_in_a_graph_that_was_made_when_it_did_not(rule, saved):
    class Quantizer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(0.7), requires_grad=False)

        def forward(self, x):
            return int_quantize(
                x, self.scale, ZERO, ZERO, THREE, rule, "grad", "single", saved=saved
            )

    def gradient(module):
        scale = module.scale.requires_grad_()
        return torch.autograd.grad(module(x).sum(), scale)[0]

    x = torch.randn(9, requires_grad=True)
    module = Quantizer()
    exported = torch.export.export(module, (x,), strict=False).module()
    traced = torch.jit.trace(module, x, check_trace=False)
    expected = gradient(module)
    assert expected != 0
    assert gradient(exported) == gradient(traced) == expected


def test_a_compact_input_may_lie_beyond_what_its_16_bits_hold():
    x = torch.tensor([-3e6, 0.4, 5e5], requires_grad=True)
    scale = torch.tensor(1e-3, requires_grad=True)
    int_quantize(
        x, scale, ZERO, ZERO, THREE, "soft_hinge", "grad", "single", saved="compact"
    ).sum().backward()
    assert x.grad.isfinite().all()
    assert scale.grad == 6


def test_no_code_is_made_where_nothing_is_differentiated():
    x = torch.randn(100)
    with torch.no_grad():
        y, code = torch.ops.brevitas_ftprop.quantize(
            x, ONE, None, None, None, None, "sign", "soft_hinge", "grad", "compact", "auto"
        )
    assert len(code) == 0
    assert code_size(CASES["sign, single"].step, RULES["soft_hinge"](), 100) == 100
    assert torch.equal(y, binary_sign(x.requires_grad_(), ONE, "soft_hinge", "grad", "compact"))


@pytest.mark.parametrize("saved", ["exact", "compact"])
@pytest.mark.parametrize("rule", ["saturated_ste", "soft_hinge", "hinge", "ste"])
def test_checkpointing_hooks_and_double_use_give_the_same_gradients(rule, saved):
    def network(x):
        h = binary_sign(x, ONE, rule, "grad", saved)
        return binary_sign(h * x + 0.1, ONE, rule, "grad", saved) * h

    def gradient(run):
        own = x.clone().requires_grad_()
        run(own).mul(weight).sum().backward()
        return own.grad

    x, weight = torch.randn(40, 30), torch.randn(40, 30)
    expected = gradient(network)
    checkpoint = torch.utils.checkpoint.checkpoint
    assert torch.equal(
        gradient(lambda own: checkpoint(network, own, use_reentrant=False)), expected
    )
    assert torch.equal(gradient(lambda own: checkpoint(network, own, use_reentrant=True)), expected)
    with torch.autograd.graph.save_on_cpu():
        assert torch.equal(gradient(network), expected)


@pytest.mark.parametrize(
    ("rule", "name", "saved"),
    itertools.product(
        RULE_CLASSES,
        [name for name in CASES if name.startswith("relu")],
        ["exact", "compact"],
    ),
)
@pytest.mark.cover(2)
def test_a_relu_in_the_step_is_a_relu_in_front_of_it(rule, name, saved):
    case, rule = CASES[name], rule()
    x, grad = inputs(case, torch.float32)
    x = x.nan_to_num(0.5).clamp(-9, 9)
    results = []
    for fused in (True, False):
        own = x.clone().requires_grad_()
        scale, zero_point, lo, hi, _ = (
            None if each is None else each.clone() for each in case.operands()
        )
        for operand in (scale, zero_point):
            operand.requires_grad_(saved == "exact")
        y = int_quantize(
            own if fused else torch.relu(own),
            scale,
            zero_point,
            lo,
            hi,
            rule.spec,
            "grad",
            case.step.form,
            relu=fused,
            saved=saved,
        )
        y.backward(grad)
        results.append((y.detach(), own.grad, scale.grad, zero_point.grad))
    (y, *gradients), (expected_y, *expected) = results
    assert torch.equal(y, expected_y)
    bound = 0.0 if saved == "exact" else 2 * error_bound(case.step, case.operands(), rule)
    for actual, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-5 + bound * 4)
