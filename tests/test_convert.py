"""Converting live models to target-prop quantizers and back: what changes and what must not."""

import copy
import subprocess
import sys
import textwrap
from collections import Counter

import brevitas.quant
import brevitas.quant.fixed_point
import pytest
import torch
from brevitas.core.function_wrapper import TensorClamp
from brevitas.export.inference import quant_inference_mode
from brevitas.export.onnx.qonnx.manager import QONNXManager
from brevitas.nn import (
    QuantConv2d,
    QuantIdentity,
    QuantLinear,
    QuantReLU,
    TruncAvgPool2d,
)
from brevitas.proxy import ActQuantProxyFromInjector, WeightQuantProxyFromInjector
from brevitas.proxy.quant_proxy import QuantProxyFromInjector
from brevitas.quant import (
    Int8ActPerTensorFloat,
    Int8Bias,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFloat,
    SignedBinaryActPerTensorConst,
    SignedBinaryWeightPerTensorConst,
    Uint8ActPerTensorFloat,
)
from brevitas.quant.float import Fp8e4m3ActPerTensorFloat, Fp8e4m3WeightPerTensorFloat
from brevitas.quant.mx_quant_ocp import MXFloat8e4m3Act, MXInt8Act, MXInt8Weight
from torch import nn

from brevitas_ftprop import RULES, quant, restore_quantizers, swap_quantizers
from brevitas_ftprop.core import TargetPropTernaryQuant
from brevitas_ftprop.levels import tensor_quant_of
from brevitas_ftprop.proxy import TargetPropActQuantProxy, TargetPropWeightQuantProxy
from brevitas_ftprop.quant.target_prop import TargetPropAct

TARGET_PROP = (TargetPropActQuantProxy, TargetPropWeightQuantProxy)
STEPS = 20


class Mixed(nn.Module):
    """Every kind of layer and quantizer: statistics, binary, learned, shared, bias, trunc, none."""

    def __init__(self, delay=0):
        super().__init__()
        self.image = QuantIdentity(
            act_quant=Int8ActPerTensorFloat,
            bit_width=5,
            collect_stats_steps=4,
            return_quant_tensor=True,
        )
        self.conv = QuantConv2d(
            3,
            6,
            3,
            weight_quant=Int8WeightPerChannelFloat,
            weight_bit_width=3,
            bias=True,
            bias_quant=Int8Bias,
        )
        self.norm = nn.BatchNorm2d(6)
        self.relu = QuantReLU(
            act_quant=Uint8ActPerTensorFloat,
            bit_width=2,
            collect_stats_steps=6,
            quant_delay_steps=delay,
            return_quant_tensor=True,
        )
        self.pool = TruncAvgPool2d(2, bit_width=4, float_to_int_impl_type="floor")
        self.binary = QuantConv2d(
            6, 6, 2, bias=False, weight_quant=SignedBinaryWeightPerTensorConst
        )
        self.shared = QuantIdentity(
            act_quant=SignedBinaryActPerTensorConst, max_val=0.5, min_val=-0.5
        )
        self.again = QuantIdentity(act_quant=self.shared.act_quant)
        self.plain = nn.Conv2d(6, 6, 1)
        self.head = QuantLinear(
            24,
            5,
            bias=True,
            weight_quant=Int8WeightPerTensorFloat,
            weight_scaling_impl_type="parameter",
            weight_scaling_init=0.1,
            weight_bit_width=4,
            output_quant=Int8ActPerTensorFloat,
            output_bit_width=6,
        )

    def forward(self, x):
        x = self.relu(self.norm(self.conv(self.image(x))))
        x = self.shared(self.binary(self.pool(x)))
        x = self.again(self.plain(x))
        return self.head(x.flatten(1))


def batch(index, dtype=torch.float32, size=3):
    generator = torch.Generator().manual_seed(100 + index)
    return torch.randn(size, 3, 8, 8, generator=generator).to(dtype)


def mixed(delay=0, warm=3, dtype=torch.float32):
    torch.manual_seed(21)
    model = Mixed(delay).to(dtype)
    for index in range(warm):
        model(batch(index, dtype))
    return model


def train(model, optimizer, first, count, dtype=torch.float32):
    outputs = []
    for index in range(first, first + count):
        optimizer.zero_grad()
        y = model(batch(index, dtype))
        outputs.append(y.detach())
        y.square().sum().backward()
        optimizer.step()
    return outputs


def adam(model):
    return torch.optim.Adam(model.parameters(), lr=1e-3)


def equals_stock(name, proxy):
    """Whether stock's clamp saturates the gradient of this quantizer (handbook, section 3)."""
    quantizer = tensor_quant_of(proxy)
    clamp = getattr(getattr(quantizer, "int_quant", quantizer), "tensor_clamp_impl", None)
    return isinstance(clamp, TensorClamp)


def swap_to_stock_rules(model):
    """The rule that the handbook's table gives for each quantizer."""
    swap_quantizers(model, "saturated_ste", weights=True, where=equals_stock)
    swap_quantizers(
        model, "ste", weights=True, where=lambda name, proxy: not isinstance(proxy, TARGET_PROP)
    )
    return model


def snapshot(model):
    """Identities, types and values of everything in a model."""
    return {
        "modules": [(name, id(m), type(m), m.training) for name, m in model.named_modules()],
        "parameters": [(name, id(p), p.dtype) for name, p in model.named_parameters()],
        "buffers": [(name, id(b)) for name, b in model.named_buffers()],
        "keys": list(model.state_dict()),
        "injectors": [
            id(m.quant_injector) for m in model.modules() if isinstance(m, QuantProxyFromInjector)
        ],
    }


def values(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def same_values(one, other):
    assert list(one) == list(other)
    assert all(torch.equal(one[key], other[key]) for key in one)


def proxies(model, kind=QuantProxyFromInjector):
    return [m for m in model.modules() if isinstance(m, kind) and m.is_quant_enabled]


@pytest.mark.parametrize("rule", RULES)
def test_forward_stays_bit_identical_in_training_and_evaluation(rule):
    model = mixed()
    twin = copy.deepcopy(model)
    swap_quantizers(model, rule, weights=True)
    for index in range(3):
        assert torch.equal(model(batch(index)), twin(batch(index)))
        same_values(model.state_dict(), twin.state_dict())
    assert torch.equal(model.eval()(batch(9)), twin.eval()(batch(9)))


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_live_optimizer_goes_on_bit_equal_to_stock(dtype):
    model, twin = mixed(dtype=dtype), mixed(dtype=dtype)
    optimizers = adam(model), adam(twin)
    train(model, optimizers[0], 0, 3, dtype)
    train(twin, optimizers[1], 0, 3, dtype)
    swap_to_stock_rules(model)
    ours = train(model, optimizers[0], 3, STEPS, dtype)
    theirs = train(twin, optimizers[1], 3, STEPS, dtype)
    restore_quantizers(model)
    ours += train(model, optimizers[0], 23, 3, dtype)
    theirs += train(twin, optimizers[1], 23, 3, dtype)
    assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
    same_values(model.state_dict(), twin.state_dict())
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    assert model.binary.weight.abs().max() > 0.1
    model.eval()(batch(0, dtype))
    assert model.binary.weight.abs().max() == model.binary.quant_weight().scale


def test_another_rule_trains_differently():
    model, twin = mixed(), mixed()
    swap_quantizers(model, "soft_hinge")
    train(model, adam(model), 0, 3)
    train(twin, adam(twin), 0, 3)
    assert not torch.equal(model.conv.weight, twin.conv.weight)


@pytest.mark.parametrize("when", range(6))
def test_a_quantization_delay_goes_on_counting(when):
    model, twin = mixed(delay=4, warm=when), mixed(delay=4, warm=when)
    swap_quantizers(model, "hinge")
    for index in range(3):
        assert torch.equal(model(batch(index)), twin(batch(index)))
    restore_quantizers(model)
    for index in range(6):
        assert torch.equal(model(batch(index)), twin(batch(index)))


def test_statistics_go_on_being_collected():
    model, twin = mixed(warm=2), mixed(warm=2)
    swap_quantizers(model, weights=True)
    for index in range(8):
        model(batch(index)), twin(batch(index))
        same_values(model.state_dict(), twin.state_dict())


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


def test_checkpoints_move_both_ways_between_stock_and_converted():
    model, twin = mixed(), mixed(warm=1)
    swap_quantizers(model, "hinge", weights=True)
    train(model, adam(model), 0, 3)
    twin.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(model.eval()(batch(5)), twin.eval()(batch(5)))
    model.train(), twin.train()
    train(twin, adam(twin), 0, 3)
    model.load_state_dict(twin.state_dict(), strict=True)
    assert torch.equal(model.eval()(batch(5)), twin.eval()(batch(5)))
    assert {p.rule for p in proxies(model, TARGET_PROP)} == {"hinge"}


def test_after_loading_a_checkpoint_training_still_equals_stock():
    model, twin, source = mixed(), mixed(), mixed(warm=7)
    swap_to_stock_rules(model)
    for loading in (model, twin):
        loading.load_state_dict(source.state_dict(), strict=True)
    flags = {name: module.training for name, module in model.named_modules()}
    assert all(flags[name] == m.training for name, m in twin.named_modules() if name in flags)
    ours, theirs = train(model, adam(model), 0, 5), train(twin, adam(twin), 0, 5)
    assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
    same_values(model.state_dict(), twin.state_dict())


def test_restoring_after_loading_a_checkpoint_equals_stock():
    model, twin, source = mixed(), mixed(), mixed(warm=7)
    swap_quantizers(model, weights=True)
    for loading in (model, twin):
        loading.load_state_dict(source.state_dict(), strict=True)
    restore_quantizers(model)
    ours, theirs = train(model, adam(model), 0, 5), train(twin, adam(twin), 0, 5)
    assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
    model.load_state_dict(source.state_dict(), strict=True)
    assert not proxies(model, TARGET_PROP)


def test_fresh_checkpoints_without_statistics_load_like_stock():
    model, twin = mixed(warm=0), mixed(warm=0)
    swap_quantizers(model, weights=True)
    assert list(model.state_dict()) == list(twin.state_dict())
    missing = [
        str(loading.load_state_dict(mixed(warm=0).state_dict(), strict=False))
        for loading in (model, twin)
    ]
    assert missing[0] == missing[1]


def test_a_deep_copy_of_a_converted_model_is_independent():
    model = mixed()
    swap_quantizers(model, "hinge", weights=True)
    other = copy.deepcopy(model)
    restore_quantizers(model)
    assert {p.rule for p in proxies(other, TARGET_PROP)} == {"hinge"}
    assert torch.equal(model(batch(0)), other(batch(0)))
    restore_quantizers(other)
    assert not proxies(other, TARGET_PROP)


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


@pytest.mark.parametrize("model", ["model", None])
def test_what_is_no_module_is_refused(model):
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module"):
        swap_quantizers(model)


def test_restore_reports_what_it_did():
    model = mixed()
    swap_quantizers(model, "hinge", where="shared.*")
    report = restore_quantizers(model)
    assert report.changed == {"shared.act_quant": "hinge -> ClampedBinaryQuant"}
    assert set(report.kept.values()) == {"not a target-prop quantizer"}


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


@pytest.mark.parametrize("weights", [False, True])
def test_restore_after_training_and_reloading_in_a_new_process(tmp_path, weights):
    model = mixed()
    swap_quantizers(model, "hinge", weights=weights)
    train(model, adam(model), 0, 3)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    restore_quantizers(model)
    torch.save(model.eval()(batch(5)).detach(), tmp_path / "expected.pt")
    script = f"""
        import importlib.util, torch
        spec = importlib.util.spec_from_file_location("convert_tests", {__file__!r})
        tests = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tests)
        torch.set_num_threads(1)
        model = tests.mixed(warm=1)
        tests.swap_quantizers(model, "soft_hinge", weights={weights})
        model.load_state_dict(torch.load("state.pt"), strict=True)
        tests.restore_quantizers(model)
        assert not tests.proxies(model, tests.TARGET_PROP)
        stock = tests.mixed(warm=1)
        stock.load_state_dict(torch.load("state.pt"), strict=True)
        x, expected = tests.batch(5), torch.load("expected.pt")
        assert torch.equal(model.eval()(x), expected)
        assert torch.equal(stock.eval()(x), expected)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr


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


REFUSED = {
    "float activation": lambda: QuantIdentity(act_quant=Fp8e4m3ActPerTensorFloat),
    "groupwise activation": lambda: QuantIdentity(act_quant=MXInt8Act, group_dim=1, group_size=4),
    "groupwise float activation": lambda: QuantIdentity(
        act_quant=MXFloat8e4m3Act, group_dim=1, group_size=4
    ),
    "float weight": lambda: QuantLinear(8, 4, False, weight_quant=Fp8e4m3WeightPerTensorFloat),
    "groupwise weight": lambda: QuantLinear(
        8, 4, False, weight_quant=MXInt8Weight, weight_group_size=4
    ),
    "decoupled weight": lambda: QuantLinear(
        8, 4, False, weight_quant=brevitas.quant.fixed_point.Int4WeightPerTensorFixedPointDecoupled
    ),
    "normed weight": lambda: QuantLinear(
        8, 4, False, weight_quant=brevitas.quant.Int8WeightNormL2PerChannelFixedPoint
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_quantizer_without_a_rule_is_refused_before_anything_is_changed(kind):
    model = nn.Sequential(
        QuantIdentity(act_quant=SignedBinaryActPerTensorConst),
        QuantLinear(8, 8, False, weight_quant=Int8WeightPerTensorFloat),
        REFUSED[kind](),
    )
    before = snapshot(model)
    with pytest.raises(TypeError, match=r"2\.\w+_quant .*where="):
        swap_quantizers(model, weights=True)
    assert snapshot(model) == before
    report = swap_quantizers(model, weights=True, where=lambda name, proxy: name[0] != "2")
    assert len(report.changed) == 2


def test_an_unknown_rule_is_refused_with_the_list_of_valid_ones():
    model = mixed()
    before = snapshot(model)
    with pytest.raises(ValueError, match="soft_hinge") as error:
        swap_quantizers(model, "no_such_rule")
    assert all(name in str(error.value) for name in RULES)
    with pytest.raises(ValueError, match="soft_hinge"):
        swap_quantizers(model, "hinge", weights=True, weight_rule="no_such_rule")
    assert snapshot(model) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weighting": "sum"}, "grad, mean"),
        ({"staircase": "both"}, "single, sum"),
        ({"weighting": "mean", "weights": True}, "not a batch"),
        ({"weight_rule": "ste"}, "weights=True"),
    ],
)
def test_invalid_options_are_refused_before_anything_is_changed(options, message):
    model = mixed()
    before = snapshot(model)
    with pytest.raises(ValueError, match=message):
        swap_quantizers(model, **options)
    assert snapshot(model) == before


@pytest.mark.parametrize("convert", [swap_quantizers, restore_quantizers])
@pytest.mark.parametrize("model", [nn.Linear(3, 3), nn.Sequential(), nn.Identity()], ids=repr)
def test_a_model_without_brevitas_layers_is_refused(convert, model):
    with pytest.raises(ValueError, match="no Brevitas quantizers"):
        convert(model)


def test_a_model_in_export_mode_is_refused_and_left_as_it_was():
    model = mixed().eval()
    model(batch(0))
    QONNXManager.set_export_mode(model, enabled=True)
    before = snapshot(model)
    with pytest.raises(ValueError, match="export or inference mode"):
        swap_quantizers(model)
    assert snapshot(model) == before
    QONNXManager.set_export_mode(model, enabled=False)


def test_a_model_in_quant_inference_mode_is_refused():
    model = nn.Sequential(QuantIdentity(act_quant=Int8ActPerTensorFloat), nn.Linear(3, 3))
    model(torch.randn(2, 3))
    model.eval()
    with torch.no_grad(), quant_inference_mode(model):
        model(torch.randn(2, 3))
        before = snapshot(model)
        with pytest.raises(ValueError, match="export or inference mode"):
            swap_quantizers(model)
        assert snapshot(model) == before
    swap_quantizers(model)


@pytest.mark.parametrize("convert", [swap_quantizers, restore_quantizers])
@pytest.mark.parametrize("which", ["activation", "weight"])
def test_a_compiled_quantizer_is_refused_before_anything_is_changed(convert, which):
    model = mixed()
    if convert is restore_quantizers:
        swap_quantizers(model, weights=True)
    proxy = model.head.output_quant if which == "activation" else model.head.weight_quant
    proxy.compile_quant()
    before = snapshot(model)
    with pytest.raises(TypeError, match="compiled"):
        convert(model) if convert is restore_quantizers else convert(model, weights=True)
    assert snapshot(model) == before


def test_a_compiled_model_is_refused_or_converted_in_its_original():
    model = torch.compile(mixed())
    report = swap_quantizers(model)
    assert report.changed
    assert proxies(model, TARGET_PROP)


def test_an_own_quantizer_without_a_stock_class_is_refused_before_anything_is_changed():
    class Ternary(TargetPropAct, brevitas.quant.SignedTernaryActPerTensorConst):
        tensor_quant = TargetPropTernaryQuant
        threshold = 0.5

    model = nn.Sequential(
        QuantIdentity(act_quant=quant.TargetPropSignedBinaryActPerTensorConst),
        QuantIdentity(act_quant=Ternary),
    )
    before = snapshot(model)
    with pytest.raises(TypeError, match=r"1\.act_quant .* bind stock_quant_class"):
        restore_quantizers(model)
    assert snapshot(model) == before


def test_an_exact_name_selects_whatever_characters_it_has():
    model = nn.ModuleDict({"a[0]": QuantIdentity(act_quant=SignedBinaryActPerTensorConst)})
    assert list(swap_quantizers(model, where="a[0].act_quant").changed) == ["a[0].act_quant"]


@pytest.mark.parametrize(
    "options", [{"activations": False}, {"where": []}, {"weights": True, "weight_rule": ""}]
)
def test_options_that_select_nothing_or_name_no_rule_are_refused(options):
    with pytest.raises(ValueError, match=r"nothing to convert|where is empty|cannot read the rule"):
        swap_quantizers(mixed(), **options)


def test_the_papers_staircases_cannot_be_restored_and_nothing_is_changed():
    model = nn.Sequential(
        QuantIdentity(act_quant=quant.TargetPropSignedBinaryActPerTensorConst),
        QuantIdentity(act_quant=quant.TargetPropStaircase3ActPerTensorConst),
    )
    before = snapshot(model)
    with pytest.raises(TypeError, match=r"1\.act_quant is one of the paper's staircases"):
        restore_quantizers(model)
    assert snapshot(model) == before
    assert len(restore_quantizers(model, where="0.*").changed) == 1


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


def test_a_learned_zero_point_trains_the_same_converted_reloaded_and_built():
    """It is rounded by stock Brevitas, whatever the rule: no target belongs to it."""
    options = {"bit_width": 3, "collect_stats_steps": 1}
    converted = QuantIdentity(brevitas.quant.ShiftedUint8ActPerTensorFloat, **options)
    built = QuantIdentity(
        quant.TargetPropShiftedUint8ActPerTensorFloat, rule="soft_hinge", **options
    )
    x = torch.randn(64)
    for act in (converted, built):
        act.train()(x)
    swap_quantizers(converted, "soft_hinge")
    reloaded = copy.deepcopy(converted)
    reloaded.load_state_dict(converted.state_dict())
    gradients = []
    for act in (converted, reloaded, built):
        act.train()(x).pow(2).sum().backward()
        gradients.append({name: p.grad for name, p in act.named_parameters()})
    assert any("zero_point" in name for name in gradients[0])
    for other in gradients[1:]:
        assert list(other) == list(gradients[0])
        for name, gradient in gradients[0].items():
            assert torch.equal(other[name], gradient), name
