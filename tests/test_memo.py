"""What a quantizer remembers from step to step is what it would compute anew."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from brevitas.nn import QuantConv2d, QuantIdentity, QuantReLU
from brevitas.quant import Int8ActPerTensorFixedPoint
from torch import Tensor, nn

from brevitas_ftprop import quant, restore_quantizers, swap_quantizers
from brevitas_ftprop.levels import tensor_quant_of
from brevitas_ftprop.memo import MEMORY, remembered
from tests.dispatched import Dispatched

RANGE = {"min_val": -0.7, "max_val": 0.7}
CONSTANT = {
    "sign": (quant.TargetPropSignedBinaryActPerTensorConst, {"max_val": 0.7}),
    "ternary": (quant.TargetPropSignedTernaryActPerTensorConst, {"max_val": 0.7}),
    "staircase": (quant.TargetPropStaircase3ActPerTensorConst, {}),
    "signed": (quant.TargetPropInt8ActPerTensorConst, RANGE | {"bit_width": 3}),
    "unsigned": (quant.TargetPropUint8ActPerTensorConst, RANGE | {"bit_width": 2}),
}


@pytest.fixture(params=CONSTANT.values(), ids=CONSTANT.keys())
def act(request) -> QuantIdentity:
    act_quant, options = request.param
    return QuantIdentity(act_quant=act_quant, return_quant_tensor=True, **options)


def forget_all(model: nn.Module) -> None:
    for module in model.modules():
        vars(module).pop(MEMORY, None)


def outputs(act: QuantIdentity, x: Tensor) -> list[Tensor]:
    y = act(x)
    return [y.value, y.scale, y.zero_point, y.bit_width]


def assert_nothing_is_stale(act: QuantIdentity, x: Tensor) -> None:
    """Compare outputs, dtypes and devices with those of a copy that remembers nothing."""
    fresh = copy.deepcopy(act)
    forget_all(fresh)
    torch.testing.assert_close(outputs(act, x), outputs(fresh, x), rtol=0, atol=0)


def test_a_constant_quantizer_computes_its_values_and_nothing_else(act):
    act.return_quant_tensor = False
    x = torch.randn(2, 3)
    act(x)
    with Dispatched() as operations:
        act(x)
    # Constants made of Python numbers, and views, which start no kernel.
    for name in ("alias", "detach", "lift_fresh"):
        operations.counts.pop(name, None)
    assert operations.counts == {"quantize": 1}


def test_a_constant_bit_width_leaves_only_the_scale_to_compute():
    act = QuantIdentity(
        act_quant=quant.TargetPropUint8ActPerTensorFloatMaxInit, bit_width=2, max_val=3.0
    )
    x = torch.randn(2, 3)
    act(x)
    with Dispatched() as operations:
        act(x)
    assert set(operations.counts) - {"alias", "detach", "lift_fresh"} == {"quantize", "abs", "div"}


@pytest.mark.parametrize(
    "layer",
    [
        QuantIdentity(act_quant=quant.TargetPropSignedBinaryActPerTensorFloat, max_val=0.7),
        QuantConv2d(3, 2, 1, weight_quant=quant.TargetPropSignedBinaryWeightPerChannelFloat),
    ],
    ids=["parameter", "statistics"],
)
def test_no_tensor_is_made_on_the_cpu_for_a_scale_that_changes(layer):
    x = torch.randn(2, 3, 2, 2)
    layer(x)
    with Dispatched() as operations:
        layer(x)
    assert "ones" not in operations.counts


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_another_dtype_gives_what_it_gives_a_new_quantizer(act, dtype):
    x = torch.randn(2, 3)
    act(x)
    assert_nothing_is_stale(act, x.to(dtype))
    act.to(dtype)
    assert_nothing_is_stale(act, x.to(dtype))


def test_another_device_gives_what_it_gives_a_new_quantizer(act):
    quantizer = tensor_quant_of(act.act_quant)
    quantizer(torch.randn(2, 3))
    quantizer.to("meta")
    assert {each.device.type for each in quantizer(torch.randn(2, 3, device="meta"))} == {"meta"}


def test_buffers_that_are_written_to_are_noticed(act):
    x = torch.randn(2, 3)
    before = outputs(act, x)[1].clone()
    quantizer = tensor_quant_of(act.act_quant)
    # The paper's staircase has a buffer in place of a module.
    scaling = getattr(quantizer, "scaling_impl", None) or quantizer.scale
    for buffer in scaling.buffers():
        buffer.mul_(2)
    assert_nothing_is_stale(act, x)
    torch.testing.assert_close(outputs(act, x)[1], 2 * before)


def test_writing_to_what_a_quantizer_gave_does_not_change_the_quantizer():
    act_quant, options = CONSTANT["signed"]
    act = QuantIdentity(act_quant=act_quant, return_quant_tensor=True, **options)
    x = torch.randn(2, 3)
    expected = act(x).scale.clone()
    act(x).scale.zero_()
    torch.testing.assert_close(act(x).scale, expected)


def test_copies_and_pickles_give_the_same(act):
    x = torch.randn(2, 3)
    expected = outputs(act, x)
    for copied in (copy.deepcopy(act), copy.copy(act)):
        torch.testing.assert_close(outputs(copied, x), expected, rtol=0, atol=0)
    memory = pickle.dumps([vars(m).get(MEMORY) for m in act.modules()])
    assert len(pickle.loads(memory)) == len(list(act.modules()))


def test_a_loaded_state_is_used_at_once(act):
    x = torch.randn(2, 3)
    act(x)
    act.load_state_dict(copy.deepcopy(act).state_dict())
    assert_nothing_is_stale(act, x)


def test_evaluating_in_inference_mode_first_does_not_hinder_training(act):
    x = torch.randn(2, 3)
    with torch.inference_mode():
        act(x)
    leaf = x.clone().requires_grad_()
    act(leaf).value.sum().backward()
    assert leaf.grad is not None
    with torch.inference_mode():
        assert_nothing_is_stale(act, x)


def test_hooks_on_a_constant_scale_are_called_at_every_step():
    act_quant, options = CONSTANT["signed"]
    act = QuantIdentity(act_quant=act_quant, **options)
    calls = []
    act(torch.randn(2, 3))
    scaling = tensor_quant_of(act.act_quant).scaling_impl
    scaling.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(2):
        act(torch.randn(2, 3))
    assert len(calls) == 2


def test_a_restored_quantizer_is_stock_again_and_remembers_nothing():
    act = QuantIdentity(act_quant=Int8ActPerTensorFixedPoint)
    stock = type(tensor_quant_of(act.act_quant))
    swap_quantizers(act)
    act(torch.randn(2, 3))
    assert type(tensor_quant_of(act.act_quant)) is not stock
    restore_quantizers(act)
    assert type(tensor_quant_of(act.act_quant)) is stock
    assert not any(MEMORY in vars(module) for module in act.modules())


def test_a_clipped_weight_with_a_constant_scale_is_clipped_at_every_step():
    conv = QuantConv2d(2, 2, 1, weight_quant=quant.TargetPropSignedBinaryWeightPerTensorConst)
    for _ in range(2):
        with torch.no_grad():
            conv.weight.fill_(5.0)
        conv(torch.randn(1, 2, 3, 3))
        assert conv.weight.abs().max().item() == pytest.approx(0.1)


def test_nothing_is_remembered_of_what_learns():
    owner, source = nn.Identity(), torch.tensor(3.0, requires_grad=True)
    (first,) = remembered(owner, "double", (source,), lambda: (2 * source,))
    (second,) = remembered(owner, "double", (source,), lambda: (2 * source,))
    assert first is not second
    assert MEMORY not in vars(owner)


def test_another_range_of_integers_is_seen():
    act = QuantIdentity(
        act_quant=quant.TargetPropInt8ActPerTensorConst, bit_width=3, min_val=-4.0, max_val=4.0
    )
    x = torch.tensor([-9.0, 9.0])
    assert act(x).tolist() == [-4, 3]
    tensor_quant = act.act_quant.fused_activation_quant_proxy.tensor_quant
    tensor_quant.int_quant.narrow_range = True
    assert act(x).tolist() == [-3, 3]


@pytest.mark.parametrize(
    "register", ["register_forward_hook", "register_full_backward_hook", "global"]
)
def test_hooks_on_a_relu_in_front_of_a_quantizer_are_called(register):
    act = QuantReLU(act_quant=quant.TargetPropUint8ActPerTensorConst, bit_width=2, max_val=3.0)
    relu = act.act_quant.fused_activation_quant_proxy.activation_impl
    calls = []
    if register == "global":
        handle = torch.nn.modules.module.register_module_forward_hook(
            lambda module, *_: calls.append(module)
        )
    else:
        handle = getattr(relu, register)(lambda module, *_: calls.append(module))
    act(torch.randn(4, requires_grad=True)).sum().backward()
    handle.remove()
    assert relu in calls
    act(torch.randn(4, requires_grad=True)).sum().backward()
    assert calls.count(relu) == 1


def test_nothing_is_remembered_of_what_a_cuda_graph_captures_and_fills_later(monkeypatch):
    owner, source = nn.Identity(), torch.tensor(3.0)

    def double() -> Tensor:
        (result,) = remembered(owner, "double", (source,), lambda: (2 * source,))
        return result

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    captured = double()
    assert double() is not captured
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    after = double()
    assert after is not captured
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    # What was remembered before is filled already.
    assert double() is after
