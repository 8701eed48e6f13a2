"""Which quantizers are converted and by which rule, and what the report says of it."""

import pytest
import torch
from brevitas.nn import QuantIdentity
from brevitas.proxy.quant_proxy import QuantProxyFromInjector
from brevitas.quant import SignedBinaryActPerTensorConst
from torch import nn

from brevitas_ftprop import restore_quantizers, swap_quantizers
from brevitas_ftprop.proxy import TargetPropActQuantProxy, TargetPropWeightQuantProxy
from tests.convert.mixed_network import TARGET_PROP, batch, mixed, proxies, snapshot


def test_swapping_again_changes_the_rule_only():
    model = mixed()
    swap_quantizers(model, "hinge")
    before = snapshot(model)
    report = swap_quantizers(model, "ste", staircase="sum", weighting="mean")
    after = snapshot(model)
    assert after["modules"] == before["modules"]
    assert set(report.changed.values()) == {"hinge -> ste"}
    for proxy in proxies(model, TARGET_PROP):
        assert (proxy.rule, proxy.staircase, proxy.weighting) == ("ste", "sum", "mean")


def test_weights_take_a_rule_of_their_own():
    model = mixed()
    swap_quantizers(model, "hinge", weights=True, weight_rule="SSTE")
    assert {p.rule for p in proxies(model, TargetPropActQuantProxy)} == {"hinge"}
    assert {p.rule for p in proxies(model, TargetPropWeightQuantProxy)} == {"saturated_ste"}


def test_report_says_what_was_changed_and_why_the_rest_was_not():
    model = mixed()
    report = swap_quantizers(model, "hinge")
    assert report.changed == {
        "image.act_quant": "IntQuant -> hinge",
        "relu.act_quant": "IntQuant -> hinge",
        "shared.act_quant": "ClampedBinaryQuant -> hinge",
        "head.output_quant": "IntQuant -> hinge",
    }
    assert report.kept["conv.weight_quant"] == "weights=False"
    assert "bias" in report.kept["conv.bias_quant"]
    assert "trunc" in report.kept["pool.trunc_quant"]
    assert "disabled" in report.kept["conv.input_quant"]
    everything = {n for n, m in model.named_modules() if isinstance(m, QuantProxyFromInjector)}
    assert report.changed.keys() | report.kept.keys() == everything
    assert not report.changed.keys() & report.kept.keys()
    text = str(report)
    assert all(name in text for name in report.changed)
    assert all(reason in text for reason in report.kept.values())


def test_activations_can_be_left_alone():
    model = mixed()
    report = swap_quantizers(model, "ste", activations=False, weights=True)
    assert not proxies(model, TargetPropActQuantProxy)
    assert set(report.changed) == {"conv.weight_quant", "binary.weight_quant", "head.weight_quant"}
    assert report.kept["relu.act_quant"] == "activations=False"


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("relu.*", {"relu.act_quant"}),
        (["image.*", "head.*"], {"image.act_quant", "head.output_quant"}),
        (lambda name, proxy: name.startswith("shared"), {"shared.act_quant"}),
    ],
)
def test_where_selects_by_name(where, expected):
    model = mixed()
    report = swap_quantizers(model, where=where)
    assert set(report.changed) == expected
    restored = restore_quantizers(model, where=where)
    assert set(restored.changed) == expected


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("nothing", ValueError, "matches no quantizer; they have names such as image"),
        (["relu.*", "nothing"], ValueError, "where='nothing' matches no quantizer"),
        (3, TypeError, "where takes a function or name patterns, not 3"),
    ],
)
def test_a_selection_that_cannot_be_meant_is_refused(where, error, message):
    model = mixed()
    with pytest.raises(error, match=message):
        swap_quantizers(model, where=where)
    assert not proxies(model, TARGET_PROP)


def test_restore_reports_what_it_did():
    model = mixed()
    swap_quantizers(model, "hinge", where="shared.*")
    report = restore_quantizers(model)
    assert report.changed == {"shared.act_quant": "hinge -> ClampedBinaryQuant"}
    assert set(report.kept.values()) == {"not a target-prop quantizer"}


def test_an_exact_name_selects_whatever_characters_it_has():
    model = nn.ModuleDict({"a[0]": QuantIdentity(act_quant=SignedBinaryActPerTensorConst)})
    assert list(swap_quantizers(model, where="a[0].act_quant").changed) == ["a[0].act_quant"]


@pytest.mark.parametrize(
    "options", [{"activations": False}, {"where": []}, {"weights": True, "weight_rule": ""}]
)
def test_options_that_select_nothing_or_name_no_rule_are_refused(options):
    with pytest.raises(ValueError, match=r"nothing to convert|where is empty|cannot read the rule"):
        swap_quantizers(mixed(), **options)


@pytest.mark.parametrize("disabled", ["relu", "shared"])
def test_a_quantizer_that_is_switched_off_is_left_alone_and_can_be_restored(disabled):
    model = mixed()
    proxy = getattr(model, disabled).act_quant
    proxy.disable_quant = True
    assert "disabled" in swap_quantizers(model).kept[f"{disabled}.act_quant"]
    restore_quantizers(model)
    proxy.disable_quant = False
    swap_quantizers(model)
    proxy.disable_quant = True
    restore_quantizers(model)
    proxy.disable_quant = False
    twin = mixed()
    assert torch.equal(model(batch(0)), twin(batch(0)))
