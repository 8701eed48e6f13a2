"""The rule of a live proxy: readable, settable, kept, and shown."""

import copy
import io
import pickle

import pytest
import torch
from brevitas.nn import QuantIdentity, QuantLinear
from torch import nn

from brevitas_ftprop import RULES, get_rule
from brevitas_ftprop.proxy import (
    TargetPropActQuantProxy,
    TargetPropWeightQuantProxy,
    advance_rules,
)
from brevitas_ftprop.quant import (
    TargetPropInt8ActPerTensorFloat,
    TargetPropInt8WeightPerTensorFloat,
    TargetPropSignedBinaryActPerTensorConst,
    TargetPropSignedBinaryWeightPerTensorConst,
    TargetPropStaircase3ActPerTensorConst,
)

ACTS = [
    TargetPropSignedBinaryActPerTensorConst,
    TargetPropInt8ActPerTensorFloat,
    TargetPropStaircase3ActPerTensorConst,
]
WEIGHTS = [TargetPropSignedBinaryWeightPerTensorConst, TargetPropInt8WeightPerTensorFloat]
QUANTIZERS = [*ACTS, *WEIGHTS]
OPTIONS = [("rule", "hinge"), ("weighting", "mean"), ("staircase", "sum")]


def layer_and_proxy(quantizer):
    if quantizer in ACTS:
        layer = QuantIdentity(act_quant=quantizer)
        return layer, layer.act_quant
    layer = QuantLinear(8, 4, bias=False, weight_quant=quantizer)
    return layer, layer.weight_quant


def gradient_of(layer, x):
    x = x.clone().requires_grad_()
    y = layer(x)
    y.sum().backward()
    return x.grad if isinstance(layer, QuantIdentity) else layer.weight.grad.clone()


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: q.__name__)
def test_layer_has_the_target_prop_proxy_with_its_defaults(quantizer):
    _, proxy = layer_and_proxy(quantizer)
    expected = TargetPropActQuantProxy if quantizer in ACTS else TargetPropWeightQuantProxy
    assert type(proxy) is expected
    assert (proxy.rule, proxy.weighting, proxy.staircase) == ("soft_hinge", "grad", "single")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: q.__name__)
def test_a_new_rule_holds_from_the_next_forward_pass_on(quantizer, rule):
    layer, proxy = layer_and_proxy(quantizer)
    # Brevitas' run-time statistics have no entry in the state dict before the first pass.
    layer(torch.randn(4, 8))
    proxy.rule = rule
    assert proxy.rule == rule
    assert f"rule={rule}" in repr(layer)
    torch.manual_seed(1)
    twin = (
        QuantIdentity(act_quant=quantizer, rule=rule)
        if quantizer in ACTS
        else QuantLinear(8, 4, bias=False, weight_quant=quantizer, weight_rule=rule)
    )
    twin.load_state_dict(layer.state_dict())
    x = torch.randn(5, 8)
    assert torch.equal(gradient_of(layer.eval(), x), gradient_of(twin.eval(), x))


def test_a_new_rule_changes_the_gradient_at_once_and_the_forward_not_at_all():
    layer, proxy = layer_and_proxy(TargetPropSignedBinaryActPerTensorConst)
    x = torch.tensor([-3.0, -0.5, 0.5, 3.0])
    before = layer(x)
    gradients = {}
    for rule in ("ste", "saturated_ste", "hinge"):
        proxy.rule = rule
        gradients[rule] = gradient_of(layer, x).tolist()
        assert torch.equal(layer(x), before)
    assert gradients == {"ste": [1, 1, 1, 1], "saturated_ste": [0, 1, 1, 0], "hinge": [0, 1, 1, 1]}


def test_a_new_staircase_form_and_weighting_change_the_gradient_at_once():
    act = QuantIdentity(
        act_quant=TargetPropInt8ActPerTensorFloat,
        bit_width=2,
        scaling_impl_type="const",
        scaling_init=1.0,
        rule="saturated_ste",
    ).eval()
    x = torch.full((4, 1), 0.1)
    scale = act.act_quant.scale().item()
    x = x * scale
    assert gradient_of(act, x).tolist() == [[1]] * 4
    act.act_quant.staircase = "sum"
    assert gradient_of(act, x).tolist() == [[1]] * 4
    assert gradient_of(act, x * 0 - 0.5 * scale).tolist() == [[1.5]] * 4
    act.act_quant.staircase = "single"
    act.act_quant.weighting = "mean"
    assert len(gradient_of(act, x).unique()) == 1
    assert gradient_of(act, x)[0, 0] != 1


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: q.__name__)
def test_the_rule_survives_loading_a_state_dict(quantizer):
    layer, proxy = layer_and_proxy(quantizer)
    layer(torch.randn(4, 8))
    proxy.rule, proxy.staircase = "hinge", "sum"
    source, _ = layer_and_proxy(quantizer)
    source(torch.randn(4, 8))
    layer.load_state_dict(source.state_dict())
    assert (proxy.rule, proxy.staircase) == ("hinge", "sum")
    quant = getattr(proxy, "fused_activation_quant_proxy", proxy).tensor_quant
    assert getattr(quant, "int_quant", quant).rule == "hinge"


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: q.__name__)
def test_the_rule_survives_a_deep_copy_which_is_independent(quantizer):
    layer, proxy = layer_and_proxy(quantizer)
    layer(torch.randn(4, 8))
    proxy.rule = "hinge"
    other = copy.deepcopy(layer)
    proxy.rule = "ste"
    other_proxy = other.act_quant if quantizer in ACTS else other.weight_quant
    assert other_proxy.rule == "hinge"
    other_proxy.rule = "ramp"
    assert proxy.rule == "ste"
    other.load_state_dict(layer.state_dict())
    assert other_proxy.rule == "ramp"


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: q.__name__)
def test_a_saved_state_dict_loads_strictly(quantizer):
    layer, proxy = layer_and_proxy(quantizer)
    proxy.rule = "hinge"
    layer(torch.randn(4, 8))
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other, other_proxy = layer_and_proxy(quantizer)
    other.load_state_dict(torch.load(file), strict=True)
    x = torch.randn(4, 8)
    assert torch.equal(layer.eval()(x), other.eval()(x))
    assert other_proxy.rule == "soft_hinge"


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: q.__name__)
@pytest.mark.parametrize(("option", "value"), [("weighting", "sum"), ("staircase", "both")])
def test_an_invalid_option_is_refused_and_the_old_one_kept(quantizer, option, value):
    _, proxy = layer_and_proxy(quantizer)
    old = getattr(proxy, option)
    with pytest.raises(ValueError, match=f"{option} must be one of"):
        setattr(proxy, option, value)
    assert getattr(proxy, option) == old


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: q.__name__)
def test_an_unknown_rule_is_refused_and_the_old_one_kept(quantizer):
    layer, proxy = layer_and_proxy(quantizer)
    with pytest.raises(ValueError, match="soft_hinge"):
        proxy.rule = "no_such_rule"
    with pytest.raises(ValueError, match="width"):
        proxy.rule = "saturated_ste(width=-1)"
    assert proxy.rule == "soft_hinge"
    layer(torch.randn(4, 8))
    layer.load_state_dict(layer.state_dict())
    assert proxy.rule == "soft_hinge"


@pytest.mark.parametrize("quantizer", WEIGHTS, ids=lambda q: q.__name__)
def test_mean_weighting_is_refused_on_weights_and_the_old_one_kept(quantizer):
    layer, proxy = layer_and_proxy(quantizer)
    with pytest.raises(ValueError, match="activations"):
        proxy.weighting = "mean"
    assert proxy.weighting == "grad"
    layer(torch.randn(2, 8)).sum().backward()


def test_aliases_and_parameters_become_the_canonical_spec():
    _, proxy = layer_and_proxy(TargetPropSignedBinaryActPerTensorConst)
    proxy.rule = "SSTE"
    assert proxy.rule == "saturated_ste"
    proxy.rule = RULES["saturated_ste"](width=2.0)
    assert proxy.rule == "saturated_ste(width=2.0)"


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: q.__name__)
def test_repr_shows_the_options(quantizer):
    layer, proxy = layer_and_proxy(quantizer)
    proxy.staircase = "sum"
    assert "rule=soft_hinge, weighting=grad, staircase=sum" in repr(layer)


@pytest.mark.parametrize("quantizer", ACTS, ids=lambda q: q.__name__)
def test_the_rule_can_be_read_and_set_while_quantization_is_disabled(quantizer):
    _, proxy = layer_and_proxy(quantizer)
    proxy.disable_quant = True
    proxy.rule = "hinge"
    assert proxy.rule == "hinge"
    proxy.disable_quant = False
    assert proxy.rule == "hinge"


def test_a_rule_that_the_user_registers_works_in_a_live_proxy(registered_rule):
    layer, proxy = layer_and_proxy(TargetPropSignedBinaryActPerTensorConst)
    proxy.rule = registered_rule
    assert gradient_of(layer, torch.tensor([-3.0, 3.0])).tolist() == [0.25, 0.25]


@pytest.fixture
def registered_rule():
    from brevitas_ftprop import Rule, register

    @register
    class Quarter(Rule):
        name = "quarter"

        def slope(self, m):
            return torch.full_like(m, 0.25)

    yield "quarter"
    del RULES["quarter"]


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: q.__name__)
def test_the_state_dict_can_be_pickled_and_holds_no_rule(quantizer):
    layer, _ = layer_and_proxy(quantizer)
    layer(torch.randn(4, 8))
    state = pickle.loads(pickle.dumps(layer.state_dict()))
    assert all(isinstance(value, torch.Tensor) for value in state.values())


def test_setting_a_rule_on_a_shared_proxy_changes_every_layer_that_uses_it():
    first = QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst)
    second = QuantIdentity(act_quant=first.act_quant)
    model = nn.Sequential(first, second)
    first.act_quant.rule = "hinge"
    assert second.act_quant is first.act_quant
    assert model[1].act_quant.rule == "hinge"


def test_a_rule_can_be_set_at_every_step_without_cost_adding_up():
    act = QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst).act_quant
    depth = len(act.quant_injector.__mro__)
    for step in range(50):
        act.rule = f"saturated_ste(width={1 + step / 100})"
    assert len(act.quant_injector.__mro__) == depth
    assert act.rule == "saturated_ste(width=1.49)"


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: q.__name__)
def test_advancing_changes_scheduled_rules_alone_and_builds_nothing(quantizer):
    layer, proxy = layer_and_proxy(quantizer)
    modules, state = list(layer.modules()), copy.deepcopy(layer.state_dict())
    advance_rules(layer, 0.5)
    assert proxy.rule == "soft_hinge"
    for rule in ("ede(t_end=5.0)", "reste"):
        proxy.rule = rule
        advance_rules(nn.Sequential(layer, nn.Linear(2, 2)), 0.25)
        assert proxy.rule == get_rule(rule).at(0.25).spec
        advance_rules(layer, 0)
        assert proxy.rule == rule
    assert all(one is other for one, other in zip(modules, layer.modules(), strict=True))
    assert layer.state_dict().keys() == state.keys()


def test_a_rule_that_was_advanced_gives_the_gradient_of_that_point_of_training():
    layer, proxy = layer_and_proxy(TargetPropSignedBinaryActPerTensorConst)
    proxy.rule = "ede"
    x = torch.linspace(-2, 2, 9)
    for progress in (0.0, 0.5, 1.0):
        advance_rules(layer, progress)
        slope = get_rule("ede").at(progress).slope(x)
        # By way of a sigmoid, and as exact: 8 ulps, as between all backends.
        precision = 8 * torch.finfo(torch.float32).eps
        torch.testing.assert_close(gradient_of(layer, x), slope, rtol=precision, atol=1e-38)


@pytest.mark.parametrize("progress", [-0.1, 1.1, float("nan")])
def test_a_progress_out_of_range_is_refused(progress):
    with pytest.raises(ValueError, match="progress is the share"):
        advance_rules(nn.Linear(2, 2), progress)
