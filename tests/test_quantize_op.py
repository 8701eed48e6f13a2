"""A quantizer runs without its operator where nobody could tell, and by it everywhere else."""

from __future__ import annotations

import pytest
import torch
from brevitas.nn import QuantIdentity, QuantReLU
from brevitas.quant import Int8ActPerTensorFloat, Uint8ActPerTensorFloat
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from brevitas_ftprop import swap_quantizers
from brevitas_ftprop.core.learned_scale import learned_scale
from brevitas_ftprop.kernels import Integers, Operands
from brevitas_ftprop.kernels.backends.blocked import BLOCK
from brevitas_ftprop.levels import tensor_quant_of
from brevitas_ftprop.ops import binary_sign, int_quantize
from brevitas_ftprop.quantize_op import is_unseen, quantize
from tests.dispatched import Dispatched

OPERATOR = torch.ops.brevitas_ftprop.quantize
TENSOR = torch.tensor


class Called(TorchFunctionMode):
    """Notes the functions that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def sign(x: Tensor, saved: str = "exact") -> Tensor:
    return binary_sign(x, TENSOR(0.5), "soft_hinge", "grad", saved)


def test_a_mode_of_either_kind_sees_the_operator_and_changes_nothing():
    x = torch.randn(64, requires_grad=True)
    (expected,) = torch.autograd.grad(sign(x).sum(), x)
    with Dispatched() as dispatched, Called() as called:
        (gradient,) = torch.autograd.grad(sign(x).sum(), x)
    assert dispatched.counts["quantize"] == dispatched.counts["quantize_backward"] == 1
    assert any("brevitas_ftprop.quantize" in name for name in called.names)
    assert torch.equal(gradient, expected)


def test_a_mode_that_begins_after_the_forward_pass_sees_the_backward_pass():
    x = torch.randn(64, requires_grad=True)
    y = sign(x)
    with Dispatched() as dispatched:
        y.sum().backward()
    assert dispatched.counts["quantize_backward"] == 1


@pytest.mark.parametrize("saved", ["exact", "compact"])
def test_no_backward_pass_fills_a_tensor_with_zeros(saved):
    x = torch.randn(64, requires_grad=True)
    y, _ = OPERATOR(x, TENSOR(0.5), *(None,) * 4, "sign", "soft_hinge", "grad", saved, "auto")
    with Dispatched() as dispatched:
        y.backward(torch.ones(64))
    assert not {"zeros", "new_zeros", "zeros_like", "zero_", "fill_"} & set(dispatched.counts)


def test_a_saved_form_of_callers_is_no_kind_of_what_autograd_keeps():
    options = "sign", "soft_hinge", "grad", "compact", "auto"
    call = torch.zeros(3), TENSOR(0.5), *(None,) * 4, *options
    sizes = {kind: len(OPERATOR(*call, kind)[1]) for kind in ("nothing", "input", "code", "half")}
    assert sizes == {"nothing": 0, "input": 0, "code": 3, "half": 3}
    with pytest.raises(ValueError, match="'compact' is not a valid Keep"):
        OPERATOR(*call, "compact")


def test_a_trace_has_one_node_for_the_quantizer():
    graph = torch.jit.trace(sign, (torch.randn(8),), check_trace=False).graph
    assert [node.kind() for node in graph.nodes()].count("brevitas_ftprop::quantize") == 1


def test_a_subclass_of_a_tensor_sees_the_operator():
    seen = []

    class Noting(Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return super().__torch_function__(func, types, args, kwargs or {})

    x = torch.randn(8)
    y = quantize(
        x.as_subclass(Noting), Operands(TENSOR(1.0)), "sign", "ste", "grad", "exact", "auto"
    )
    assert any("brevitas_ftprop.quantize" in name for name in seen)
    assert torch.equal(y.as_subclass(Tensor), torch.where(x >= 0, 1.0, -1.0))


def test_nothing_is_unseen_inside_a_transform():
    inside = []
    torch.func.vmap(lambda x: inside.append(is_unseen(x)) or x)(torch.zeros(2))
    assert inside == [False]
    assert is_unseen(torch.zeros(2), None, nn.Parameter(torch.zeros(2)))


def test_a_gradient_cannot_be_differentiated_again():
    x = torch.randn(8, requires_grad=True)
    (gradient,) = torch.autograd.grad(sign(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once only"):
        gradient.sum().backward()


@pytest.mark.parametrize("elements", [10_000, 100_000, 262_143, 262_144])
@pytest.mark.parametrize(
    ("layer", "stock", "bits"),
    [(QuantReLU, Uint8ActPerTensorFloat, 2), (QuantIdentity, Int8ActPerTensorFloat, 4)],
    ids=["unsigned behind a ReLU", "signed"],
)
def test_a_layer_of_one_block_has_stocks_bits_in_all_gradients(layer, stock, bits, elements):
    assert elements <= BLOCK
    for value in (0.7, 3.3):
        results = []
        x, grad = 2 * torch.randn(elements), torch.randn(elements)
        for ours in (False, True):
            act = layer(act_quant=stock, bit_width=bits, collect_stats_steps=1)
            for _ in range(2):
                act(torch.linspace(-1, 1, 100))
            if ours:
                swap_quantizers(act, "saturated_ste")
            (parameter,) = act.parameters()
            nn.init.constant_(parameter, value)
            leaf = x.clone().requires_grad_()
            y = act(leaf)
            results.append((y.detach(), *torch.autograd.grad(y, (leaf, parameter), grad)))
        for one, other in zip(*results, strict=True):
            assert torch.equal(one, other)


def test_an_infinity_behind_the_relu_counts_for_nothing_in_the_scales_gradient():
    x = TENSOR([-torch.inf, -1.0, 0.3, 0.9]).requires_grad_()
    scale = TENSOR(0.5, requires_grad=True)
    y = int_quantize(
        x,
        scale,
        TENSOR(0.0),
        TENSOR(0.0),
        TENSOR(3.0),
        "saturated_ste",
        "grad",
        "single",
        relu=True,
    )
    y.sum().backward()
    # Σ (q - x/s) over 0.3 and 0.9, whose q are 1 and 2.
    torch.testing.assert_close(scale.grad, TENSOR(0.4 + 0.2))


def test_a_small_input_that_a_large_scale_makes_zero_still_passes_the_relu():
    x = TENSOR([1e-44, 0.0, -1e-44]).requires_grad_()
    scale = TENSOR(1000.0, requires_grad=True)
    options = TENSOR(0.0), TENSOR(0.0), TENSOR(3.0), "saturated_ste", "grad", "single"
    int_quantize(x, scale, *options, relu=True).sum().backward()
    assert x.grad.tolist() == [1.0, 0.0, 0.0]
    assert Integers("round", "single", relu=True).gate(x.detach()).tolist() == [1.0, 0.0, 0.0]


def test_a_learned_scale_below_its_least_value_is_left_to_brevitas():
    act = QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=2, collect_stats_steps=1)
    swap_quantizers(act)
    for _ in range(3):
        act(torch.linspace(0, 1, 100))
    quant = tensor_quant_of(act.act_quant)
    three = TENSOR(3.0)
    for value in (0.6, -0.6):
        nn.init.constant_(quant.scaling_impl.value, value)
        fast = learned_scale(quant.scaling_impl, three)
        slow = quant.scaling_impl(torch.zeros(1), three)
        assert torch.equal(fast, slow)
        gradients = [torch.autograd.grad(s, quant.scaling_impl.value)[0] for s in (fast, slow)]
        assert torch.equal(*gradients)
    nn.init.constant_(quant.scaling_impl.value, 1e-12)
    assert learned_scale(quant.scaling_impl, three) is None
    assert act(torch.ones(1)).isfinite().all()
