"""The monitor changes nothing, keeps nothing, and works wherever training does."""

from __future__ import annotations

import copy
import functools
import gc
import itertools
import math
import pickle
import time
import weakref

import pytest
import torch
from brevitas.nn import QuantIdentity, QuantLinear
from brevitas.quant import Fp8e4m3ActPerTensorFloat, Int32Bias, SignedBinaryActPerTensorConst
from torch import nn
from torch.utils.checkpoint import checkpoint

from brevitas_ftprop import advance_rules, restore_quantizers, swap_quantizers
from brevitas_ftprop.monitor import METRICS, Monitor
from brevitas_ftprop.proxy import TargetPropProxy
from brevitas_ftprop.quant import (
    TargetPropInt8ActPerTensorFloat,
    TargetPropSignedBinaryActPerTensorConst,
)

SIGN = TargetPropSignedBinaryActPerTensorConst


def sign_network(**options) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), QuantIdentity(act_quant=SIGN, **options), nn.Linear(8, 3))


def backward(model, x=None):
    model(torch.randn(5, 6) if x is None else x).square().sum().backward()


def probe(model, x):
    return model(x).square().sum()


def hooks_of(model):
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.mark.parametrize("with_probe", [False, True])
@pytest.mark.parametrize("stock", [False, True])
def test_training_with_the_monitor_is_bit_for_bit_training_without(
    network, batches, train, stock, with_probe
):
    if stock:
        # The paper's staircases have no stock counterpart.
        network[9] = QuantIdentity(act_quant=SIGN)
        restore_quantizers(network)
    twin = copy.deepcopy(network)
    images, labels = batches[-1]

    def probe():
        return nn.functional.cross_entropy(network(images + torch.rand(1)), labels)

    torch.manual_seed(7)
    with Monitor(network, every=2, units=16, probe=probe if with_probe else None) as monitor:
        watched = train(network, batches, monitor)
        state = torch.get_rng_state()
    torch.manual_seed(7)
    assert train(twin, batches) == watched
    assert torch.equal(torch.get_rng_state(), state)
    assert network.state_dict().keys() == twin.state_dict().keys()
    for name, value in network.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name]), name
    for one, other in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    assert [entry["step"] for entry in monitor.history] == [0, 2, 4]
    assert all(module.training for module in network.modules())


def test_every_quantizer_has_its_metrics(network, batches, train):
    with Monitor(network, every=3) as monitor:
        train(network, batches, monitor)
    watched = {n for n, m in network.named_modules() if isinstance(m, TargetPropProxy)}
    assert set(monitor.history[0]["layers"]) == watched
    assert {name.rpartition(".")[2] for name in watched} == {"act_quant", "weight_quant"}
    assert monitor.skipped == {}
    for name, metrics in monitor.history[1]["layers"].items():
        assert (metrics["output_flips"] is not None) == name.endswith("weight_quant")
        for metric in ("at_target", "dead", "with_target"):
            assert 0 <= metrics[metric] <= 1
    assert monitor.history[0]["layers"]["0.weight_quant"]["output_flips"] is None


def test_without_gradient_or_in_eval_mode_nothing_is_looked_at():
    model = sign_network()
    with Monitor(model, every=1) as monitor:
        with torch.no_grad():
            model(torch.randn(5, 6))
        with torch.inference_mode():
            model(torch.randn(5, 6))
        model(torch.randn(5, 6))
        model.eval()
        backward(model)
        assert monitor.step() == {"step": 0, "layers": {}}
        assert monitor.scalars() == {}


def test_only_every_kth_step_is_sampled():
    model = sign_network()
    with Monitor(model, every=3, first_step=4) as monitor:
        sampled = []
        for _ in range(6):
            backward(model)
            sampled.append(monitor.step() is not None)
    assert sampled == [False, False, True, False, False, True]
    assert [entry["step"] for entry in monitor.history] == [6, 9]


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing_gives_the_same_metrics(use_reentrant):
    model, x = sign_network(), torch.randn(5, 6, requires_grad=True)
    entries = []
    for forward in (model, lambda x: checkpoint(model, x, use_reentrant=use_reentrant)):
        with Monitor(model, every=1) as monitor:
            forward(x).square().sum().backward()
            entries.append(monitor.step())
    assert entries[0] == entries[1]
    assert entries[0]["layers"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_metrics_are_near_those_in_float32(network, batches, dtype):
    images, labels = batches[0]
    entries = []
    for enabled in (False, True):
        model = copy.deepcopy(network)
        torch.manual_seed(0)
        with Monitor(model, every=1) as monitor:
            with torch.autocast("cpu", dtype, enabled=enabled):
                loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            entries.append(monitor.step()["layers"])
    assert entries[0].keys() == entries[1].keys()
    for name, metrics in entries[1].items():
        assert math.isfinite(metrics["grad_out"])
        assert metrics["grad_in"] == pytest.approx(entries[0][name]["grad_in"], rel=0.5, abs=0.05)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_dtype_has_metrics(dtype):
    model = sign_network().to(dtype)
    with Monitor(model, every=1) as monitor:
        backward(model, torch.randn(5, 6, dtype=dtype))
        (metrics,) = monitor.step()["layers"].values()
    assert metrics["with_target"] == 1


def test_calls_of_a_shared_quantizer_and_of_accumulated_batches_are_pooled():
    act = QuantIdentity(act_quant=SIGN)
    grads = [torch.tensor([[1.0, -1.0]]), torch.tensor([[2.0, 2.0]])]
    with Monitor(act, every=1) as monitor:
        one, other = (act(torch.ones(1, 2, requires_grad=True)) for _ in range(2))
        torch.autograd.backward([one, other], grads)
        act(torch.ones(1, 2, requires_grad=True)).backward(grads[1])
        (metrics,) = monitor.step()["layers"].values()
    assert metrics["at_target"] == pytest.approx(1 / 6)
    assert metrics["grad_in"] == pytest.approx(math.sqrt(2 + 8 + 8))


def test_a_quantizer_that_layers_share_is_watched_once():
    act = QuantIdentity(act_quant=SIGN)
    model = nn.Sequential(nn.Linear(6, 6), act, nn.Linear(6, 6), act)
    with Monitor(model, every=1) as monitor:
        backward(model)
        assert list(monitor.step()["layers"]) == ["1.act_quant"]


@pytest.fixture
def group_of_one(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield
    # Gloo's thread lets go of its last work with the GIL only, and what ends the group has the GIL
    # while it waits for that thread: a thread that was late hung here for ever.
    time.sleep(0.2)
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("group_of_one")
def test_ddp_is_watched_and_changes_nothing():
    model = sign_network()
    twin, x = copy.deepcopy(model), torch.randn(5, 6)
    wrapped = nn.parallel.DistributedDataParallel(model)
    with Monitor(wrapped, every=1, probe=lambda: model(x).square().sum()) as monitor:
        for _ in range(2):
            backward(wrapped, x)
            layers = monitor.step()["layers"]
    for _ in range(2):
        backward(twin, x)
    assert layers["module.1.act_quant"]["output_flips"] == 0
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def train_one_of_two(rank, folder, watched):
    """Three steps of one of two processes, each with images of its own."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/{watched}", rank=rank, world_size=2
    )
    torch.manual_seed(0)
    model = sign_network()
    wrapped = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(rank)
    x = torch.randn(5, 6)
    monitor = Monitor(wrapped, every=1, probe=lambda: probe(model, x)) if watched else None
    for _ in range(3):
        optimizer.zero_grad()
        backward(wrapped)
        optimizer.step()
        if monitor is not None:
            monitor.step()
    history = monitor.history if monitor is not None else []
    torch.save((model.state_dict(), history), folder / f"{watched}_{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_in_two_processes_each_watches_its_share_and_the_weights_are_those_without(tmp_path):
    saved = {}
    for watched in (False, True):
        torch.multiprocessing.start_processes(
            train_one_of_two, (tmp_path, watched), nprocs=2, start_method="spawn"
        )
        for rank in (0, 1):
            saved[watched, rank] = torch.load(tmp_path / f"{watched}_{rank}.pt")
    state = saved[False, 0][0]
    for other, _ in saved.values():
        assert all(torch.equal(state[name], value) for name, value in other.items())
    one, other = (saved[True, rank][1] for rank in (0, 1))
    assert [entry["step"] for entry in one] == [entry["step"] for entry in other] == [0, 1, 2]
    assert one != other


def test_the_rule_may_change_and_the_state_may_be_loaded_while_watched():
    model = sign_network(rule="reste")
    with Monitor(model, every=1) as monitor:
        for progress in (0.0, 1.0):
            advance_rules(model, progress)
            model.load_state_dict(copy.deepcopy(model.state_dict()))
            backward(model)
            monitor.step()
        swap_quantizers(model, "perceptron")
        backward(model)
        monitor.step()
        restore_quantizers(model)
        backward(model)
        monitor.step()
    errors = [entry["layers"]["1.act_quant"]["estimating_error"] for entry in monitor.history]
    assert len({round(error, 4) for error in errors}) == 4


def test_a_copy_of_a_watched_model_is_not_watched():
    model = sign_network()
    with Monitor(model, every=1) as monitor:
        twin = copy.deepcopy(model)
        backward(twin)
        assert monitor.step()["layers"] == {}
        Monitor(twin).close()
        (hook,) = model[1].act_quant._forward_hooks.values()
        assert type(pickle.loads(pickle.dumps(hook))) is not type(hook)


def test_after_closing_nothing_is_left_on_the_model_and_nothing_is_kept_of_it():
    model, x = sign_network(), torch.randn(5, 6)
    monitor = Monitor(model, every=1, probe=functools.partial(probe, model, x))
    backward(model)
    monitor.step()
    model(x)  # a call that no backward pass follows
    monitor.close()
    monitor.close()
    assert hooks_of(model) == 0
    assert not monitor.sampling
    references = [weakref.ref(each) for each in (model, model[1].act_quant, model[0].weight)]
    del model
    gc.collect()
    assert [reference() for reference in references] == [None, None, None]
    assert len(monitor.history) == 1
    with pytest.raises(RuntimeError, match="the monitor is closed"):
        monitor.step()


def test_between_steps_no_tensor_of_the_model_is_kept():
    model = sign_network()
    with Monitor(model, every=1) as monitor:
        output = model(torch.randn(5, 6))
        reference = weakref.ref(output)
        output.sum().backward()
        monitor.step()
        del output
        gc.collect()
        assert reference() is None
        assert all(watch.calls == [] for watch in monitor._watches.values())


def test_an_exception_in_the_training_detaches_the_monitor():
    model = sign_network()
    with pytest.raises(ZeroDivisionError), Monitor(model):  # noqa: PT012
        backward(model)
        raise ZeroDivisionError
    assert hooks_of(model) == 0


def test_an_exception_in_the_probe_leaves_the_model_in_its_mode():
    model = sign_network()

    def broken():
        model(torch.randn(2, 6))
        raise ZeroDivisionError

    with Monitor(model, every=1, probe=broken) as monitor:
        backward(model)
        with pytest.raises(ZeroDivisionError):
            monitor.step()
        assert all(module.training for module in model.modules())
        assert torch.is_grad_enabled()


def test_a_second_monitor_is_refused_until_the_first_is_closed():
    model = sign_network()
    with Monitor(model), pytest.raises(ValueError, match=r"1\.act_quant is watched by another"):
        Monitor(model[1:])
    Monitor(model).close()


def test_a_model_without_quantizers_to_watch_is_refused():
    with pytest.raises(ValueError, match=r"Linear has no quantizers to watch \(none is"):
        Monitor(nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module"):
        Monitor("model")
    with pytest.raises(ValueError, match="act_quant: ActFloatQuantProxyFromInjector is not"):
        Monitor(QuantIdentity(act_quant=Fp8e4m3ActPerTensorFloat))


@pytest.mark.parametrize(
    "options", [{"every": 0}, {"units": 0}, {"every": 1.5}, {"units": 2.0}, {"every": float("nan")}]
)
def test_options_that_are_no_positive_integers_are_refused(options):
    with pytest.raises(ValueError, match="every and units must be positive integers, not"):
        Monitor(sign_network(), **options)


def test_what_cannot_be_watched_is_named():
    model = nn.Sequential(
        QuantIdentity(act_quant=SIGN, return_quant_tensor=True),
        QuantLinear(6, 8, bias=True, bias_quant=Int32Bias),
        QuantIdentity(act_quant=Fp8e4m3ActPerTensorFloat),
    )
    with Monitor(model) as monitor:
        assert set(monitor.skipped) == {"1.bias_quant", "2.act_quant"}
        assert "is not of integer activations or weights" in monitor.skipped["1.bias_quant"]


def test_while_quantization_is_delayed_a_quantizer_has_no_metrics_and_its_delay_is_not_shortened():
    act = QuantIdentity(act_quant=TargetPropInt8ActPerTensorFloat, quant_delay_steps=3)
    model, x = nn.Sequential(nn.Linear(6, 6), act), torch.randn(5, 6)
    with Monitor(model, every=1, probe=lambda: model(x).sum()) as monitor:
        watched = []
        for _ in range(5):
            backward(model)
            watched.append(bool(monitor.step()["layers"]))
    # Brevitas counts before it quantizes, so that the third call is no longer seen as delayed.
    assert watched == [False, False, True, True, True]


def test_a_gradient_of_one_unit_or_none_is_no_trouble():
    act = QuantIdentity(act_quant=SIGN)
    with Monitor(act, every=1) as monitor:
        act(torch.ones(1, 1, requires_grad=True)).backward(torch.zeros(1, 1))
        (metrics,) = monitor.step()["layers"].values()
        act(torch.ones(3, requires_grad=True)).sum().backward()
        (other,) = monitor.step()["layers"].values()
    assert metrics["with_target"] == 0
    assert math.isnan(metrics["at_target"])
    assert other["with_target"] == 1


def test_a_compiled_model_has_the_same_metrics():
    model, x = sign_network(), torch.randn(5, 6)
    entries = []
    for forward in (model, torch.compile(model, backend="aot_eager")):
        with Monitor(model, every=1) as monitor:
            for _ in range(2):
                forward(x).square().sum().backward()
                entries.append(monitor.step()["layers"]["1.act_quant"])
        torch._dynamo.reset()
    for one, other in itertools.pairwise(entries):
        assert {n: one[n] for n in METRICS} == pytest.approx({n: other[n] for n in METRICS})


def test_brevitas_asking_for_a_scale_is_no_call():
    model = nn.Sequential(QuantIdentity(SignedBinaryActPerTensorConst), nn.Linear(6, 2))
    with Monitor(model, every=1) as monitor:
        x = torch.randn(2, 6, requires_grad=True)
        (model(x).sum() * model[0].act_quant.scale()).backward()
        assert monitor.step()["layers"]["0.act_quant"]["with_target"] == 1
