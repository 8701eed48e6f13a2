"""Every ready-made quantizer of Brevitas is converted, and every one of ours restored."""

import brevitas.quant
import brevitas.quant.fixed_point
import pytest
import torch
from brevitas.nn import QuantIdentity, QuantLinear
from brevitas.proxy import ActQuantProxyFromInjector, WeightQuantProxyFromInjector

from brevitas_ftprop import quant, restore_quantizers, swap_quantizers
from brevitas_ftprop.levels import tensor_quant_of
from tests.convert.mixed_network import TARGET_PROP, equals_stock, proxies, snapshot


def stock_quantizers():
    """Every ready-made integer or binary quantizer of Brevitas that a plain layer takes."""
    found = {}
    for module in (brevitas.quant, brevitas.quant.fixed_point):
        for name in dir(module):
            plain = ("MSE", "HQO", "Group", "Bias", "Trunc", "Percentile", "Dynamic", "Batch")
            kinds = ("Int", "Uint", "SignedBinary", "SignedTernary", "ShiftedUint")
            parts = "Act" in name or "Weight" in name
            if parts and name.startswith(kinds) and not any(word in name for word in plain):
                found[name] = getattr(module, name)
    return found


STOCK = stock_quantizers()


def layer_with(name):
    torch.manual_seed(2)
    if "Weight" in name:
        layer = QuantLinear(12, 6, bias=False, weight_quant=STOCK[name])
        layer.weight.data[:] = torch.linspace(-0.4, 0.4, 72).view(6, 12)
        return layer, layer.weight_quant
    options = {"collect_stats_steps": 2, "min_val": -0.6, "max_val": 0.6}
    layer = QuantIdentity(act_quant=STOCK[name], **options)
    return layer, layer.act_quant


@pytest.mark.parametrize("name", STOCK)
def test_every_stock_quantizer_trains_on_with_its_rule_or_is_refused(name):
    (layer, proxy), (twin, _) = layer_with(name), layer_with(name)
    x = torch.randn(4, 12)
    before = snapshot(layer)
    rule = "saturated_ste" if equals_stock(name, proxy) else "ste"
    kinds = (ActQuantProxyFromInjector, WeightQuantProxyFromInjector)
    quantizer = tensor_quant_of(proxy)
    convertible = type(proxy) in kinds and type(quantizer).__name__ in (
        "RescalingIntQuant",
        "BinaryQuant",
        "ClampedBinaryQuant",
    )
    if not convertible:
        with pytest.raises(TypeError, match="no target rule"):
            swap_quantizers(layer, rule, weights=True)
        assert snapshot(layer) == before
        return
    swap_quantizers(layer, rule, weights=True)
    assert type(proxy) in TARGET_PROP
    for index in range(5):
        results = []
        for model in (layer, twin):
            entering = (x * (index + 1) * 0.2).requires_grad_()
            y = model(entering)
            y = getattr(y, "value", y)
            model.zero_grad()
            (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
            results.append([y, entering.grad, *(p.grad for p in model.parameters())])
        assert all(torch.equal(*pair) for pair in zip(*results, strict=True))
    restore_quantizers(layer)
    assert torch.equal(layer(x), twin(x))


def test_there_are_stock_quantizers_to_convert():
    assert len(STOCK) > 20


@pytest.mark.parametrize("name", [n for n in quant.__all__ if "Staircase" not in n])
def test_ready_made_quantizers_can_be_restored_to_stock(name):
    if "Act" in name:
        options = {"min_val": -1.0, "max_val": 1.0}
        if "PerChannel" in name:
            options = {
                "per_channel_broadcastable_shape": (1, 8),
                "scaling_stats_permute_dims": (1, 0),
            }
        layer = QuantIdentity(act_quant=getattr(quant, name), **options)
    else:
        layer = QuantLinear(8, 4, False, weight_quant=getattr(quant, name))
    x = torch.randn(5, 8, requires_grad=True)
    layer(x)
    layer.eval()
    before, keys = layer(x), list(layer.state_dict())
    restore_quantizers(layer)
    assert not proxies(layer, TARGET_PROP)
    assert torch.equal(layer(x), before)
    assert list(layer.state_dict()) == keys
    layer.load_state_dict(layer.state_dict(), strict=True)
    assert torch.equal(layer.eval()(x), before)
    layer(x).sum().backward()
