"""What stays the same object in a converted model, and what belongs to it alone."""

import copy
from collections import Counter

import pytest
import torch
from brevitas.nn import QuantLinear
from brevitas.quant import (
    Int8WeightPerTensorFloat,
)
from torch import nn

from brevitas_ftprop import restore_quantizers, swap_quantizers
from brevitas_ftprop.proxy import TargetPropActQuantProxy
from tests.convert.mixed_network import (
    TARGET_PROP,
    batch,
    mixed,
    proxies,
    same_values,
    snapshot,
    values,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_parameters_and_buffers_stay_the_same_objects(dtype):
    model = mixed(dtype=dtype)
    model.relu.eval()
    before, state = snapshot(model), values(model)
    swap_quantizers(model, weights=True)
    swapped = snapshot(model)
    restore_quantizers(model)
    restored = snapshot(model)
    for after in (swapped, restored):
        for part in ("parameters", "buffers", "keys"):
            assert after[part] == before[part], part
        assert [(n, t) for n, _, _, t in after["modules"]] == [
            (n, t) for n, _, _, t in before["modules"]
        ]
    assert [(n, t) for n, _, t, _ in restored["modules"]] == [
        (n, t) for n, _, t, _ in before["modules"]
    ]
    same_values(state, model.state_dict())


def test_training_flags_of_single_modules_are_kept():
    model = mixed()
    for index, module in enumerate(model.modules()):
        module.training = index % 3 == 0
    flags = [m.training for m in model.modules()]
    swap_quantizers(model, weights=True)
    assert [m.training for m in model.modules()] == flags
    restore_quantizers(model)
    assert [m.training for m in model.modules()] == flags


def test_hooks_are_kept_and_can_be_removed():
    # Statistics have been collected, so that every pass calls the same modules.
    model = mixed(warm=8)
    calls, handles = Counter(), []
    for name, module in model.named_modules():
        for register in (module.register_forward_hook, module.register_forward_pre_hook):
            handles.append(
                register(lambda *_, name=name, what=register.__name__: calls.update([(name, what)]))
            )

    def called():
        calls.clear()
        model(batch(0))
        return calls.copy()

    stock = called()
    swap_quantizers(model, weights=True)
    # A target-prop step rounds and clamps by itself.
    own = ("float_to_int_impl", "tensor_clamp_impl")
    expected = {key for key in stock if not key[0].endswith(own)}
    assert {key for key in called() if not key[0].endswith(own)} == expected
    restore_quantizers(model)
    assert called() == stock
    swap_quantizers(model, weights=True)
    for handle in handles:
        handle.remove()
    assert not called()


def test_a_shared_proxy_stays_shared_and_is_reported_once():
    model = mixed()
    proxy = model.shared.act_quant
    report = swap_quantizers(model)
    assert model.shared.act_quant is model.again.act_quant is proxy
    assert type(proxy) is TargetPropActQuantProxy
    assert [name for name in report.changed if "shared" in name or "again" in name] == [
        "shared.act_quant"
    ]


def test_a_deep_copy_of_a_converted_model_is_independent():
    model = mixed()
    swap_quantizers(model, "hinge", weights=True)
    other = copy.deepcopy(model)
    restore_quantizers(model)
    assert {p.rule for p in proxies(other, TARGET_PROP)} == {"hinge"}
    assert torch.equal(model(batch(0)), other(batch(0)))
    restore_quantizers(other)
    assert not proxies(other, TARGET_PROP)


def test_no_copy_of_a_stock_module_is_hidden_in_a_converted_model():
    model = mixed()
    counts = Counter(type(m).__name__ for m in model.modules())
    swap_quantizers(model, weights=True)
    converted = Counter(type(m).__name__ for m in model.modules())
    assert sum(counts.values()) <= sum(converted.values()) <= sum(counts.values()) + 2
    assert converted["ClampedBinaryQuant"] == converted["BinaryQuant"] == 0
    for proxy in proxies(model, TARGET_PROP):
        held = [v for v in vars(proxy).values() if isinstance(v, nn.Module)]
        assert not held


def test_gradients_and_requires_grad_are_kept():
    model = mixed()
    model(batch(0)).sum().backward()
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad = index % 2 == 0
    gradients = [p.grad for p in model.parameters()]
    flags = [p.requires_grad for p in model.parameters()]
    swap_quantizers(model, weights=True)
    assert all(a is b for a, b in zip((p.grad for p in model.parameters()), gradients, strict=True))
    assert [p.requires_grad for p in model.parameters()] == flags


def test_a_cached_inference_weight_does_not_outlive_its_quantizer():
    model = nn.Sequential(QuantLinear(8, 4, False, weight_quant=Int8WeightPerTensorFloat))
    swap_quantizers(model, weights=True)
    assert model[0].weight_quant.tracked_module_list == [model[0]]
    with torch.no_grad():
        y = model(torch.ones(1, 8))
        model[0].weight.mul_(2)
        assert not torch.equal(model(torch.ones(1, 8)), y)


def test_a_converted_model_gets_a_larger_module_tree_without_breaking_it():
    """A layer that is added later shares a converted proxy's weights like stock."""
    model = mixed()
    swap_quantizers(model, "hinge", weights=True)
    twin = QuantLinear(24, 5, bias=False, weight_quant=model.head.weight_quant)
    assert len(model.head.weight_quant.tracked_module_list) == 2
    twin.weight.data.copy_(model.head.weight)
    restore_quantizers(model)
    assert torch.equal(twin.quant_weight().value, model.head.quant_weight().value)
