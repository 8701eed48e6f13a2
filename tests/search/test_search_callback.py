"""The search as a Lightning callback: around training batches, and nowhere else."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from brevitas.nn import QuantIdentity
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.data import DataLoader, TensorDataset

from brevitas_ftprop.quant import (
    TargetPropSignedBinaryActPerTensorConst,
    TargetPropStaircase3ActPerTensorConst,
)
from brevitas_ftprop.search import search_targets
from brevitas_ftprop.search.target_report import TargetReport
from brevitas_ftprop.targets import SETTERS, TargetSetter, register_setter

lightning = pytest.importorskip("lightning.pytorch")
# Both need Lightning, without which this file is skipped.
from lightning.pytorch.loggers import CSVLogger  # noqa: E402

from brevitas_ftprop.monitor.callback import MonitorCallback  # noqa: E402
from brevitas_ftprop.search.search_callback import TargetSearchCallback  # noqa: E402

SEARCH = "local_search(candidates=8)"


class Classifier(lightning.LightningModule):
    def __init__(self, act=TargetPropSignedBinaryActPerTensorConst):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(6, 8),
            QuantIdentity(act_quant=act),
            nn.Linear(8, 8),
            QuantIdentity(act_quant=TargetPropStaircase3ActPerTensorConst),
            nn.Linear(8, 2),
        )
        self.watched = []

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, _):
        self.watched.append(("training", is_searched(self)))
        loss = functional.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, _):
        self.watched.append(("validation", is_searched(self)))
        self(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def is_searched(module) -> bool:
    hooks = [len(each._forward_hooks) + len(each._forward_pre_hooks) for each in module.modules()]
    return bool(_get_current_dispatch_mode_stack()) or any(hooks)


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 6, generator=generator)
    return DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=4)


def fit(tmp_path, *callbacks, module=None, checkpoint=None, **options):
    torch.manual_seed(0)
    module = Classifier() if module is None else module
    defaults = {
        "accelerator": "cpu",
        "callbacks": list(callbacks),
        "logger": CSVLogger(tmp_path, name="", version="log"),
        "max_epochs": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
    }
    trainer = lightning.Trainer(**(defaults | options))
    trainer.fit(module, data(), data(), ckpt_path=checkpoint)
    return module


def by_hand(setter, every=1, parts=1):
    """The same training without Lightning, its random numbers drawn as the callback has them."""
    torch.manual_seed(0)
    module = Classifier()
    optimizer = module.configure_optimizers()
    search = search_targets(module, setter)
    for number, (x, y) in enumerate(data()):
        step = number // parts
        key = [0, step, number, 0]
        search.reseed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        if step % every:
            (functional.cross_entropy(module.net(x), y) / parts).backward()
        else:
            with search:
                (functional.cross_entropy(module.net(x), y) / parts).backward()
        if (number + 1) % parts == 0:
            optimizer.step()
            optimizer.zero_grad()
    return module


def assert_equal(one, other, equal=True):
    pairs = list(zip(one.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(*pair) for pair in pairs) is equal


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("parts", [1, 2])
def test_it_is_a_search_around_the_steps_of_a_plain_loop(tmp_path, every, parts):
    callback = TargetSearchCallback(SEARCH, every=every)
    module = fit(tmp_path, callback, accumulate_grad_batches=parts)
    assert_equal(module, by_hand(SEARCH, every, parts))
    assert_equal(module, fit(tmp_path / "plain", accumulate_grad_batches=parts), equal=False)


def test_training_batches_are_searched_and_nothing_else_is(tmp_path):
    callback = TargetSearchCallback(SEARCH)
    module = fit(tmp_path, callback)
    assert module.watched == [("training", True)] * 8 + [("validation", False)] * 8
    report = callback.report()
    assert report.left == {
        "net.3.act_quant": "it has more than two levels, and targets are −1 and +1"
    }
    assert list(report.layers) == ["net.1.act_quant"]
    # Eight batches of four rows, of eight units each.
    assert report.layers["net.1.act_quant"].chosen == 8 * 4 * 8
    assert 0 < report.layers["net.1.act_quant"].share < 1
    assert not is_searched(module)


def test_the_share_of_changed_targets_is_logged_beside_what_the_monitor_logs(tmp_path):
    callback, monitor = TargetSearchCallback(SEARCH), MonitorCallback(every=4)
    watched = fit(tmp_path, callback, monitor)
    header, *rows = (tmp_path / "log" / "metrics.csv").read_text().splitlines()
    column = header.split(",").index("target_prop/net.1.act_quant/changed")
    (logged,) = (row.split(",")[column] for row in rows if row.split(",")[column])
    assert float(logged) == callback.report().layers["net.1.act_quant"].share
    assert "target_prop/net.1.act_quant/at_target" in header
    assert_equal(watched, fit(tmp_path / "alone", TargetSearchCallback(SEARCH)))


@pytest.mark.parametrize("setter", ["gradient_sign", "local_search(candidates=0)"])
def test_the_default_and_a_budget_of_zero_train_bit_for_bit_as_without(tmp_path, setter):
    callback = TargetSearchCallback(setter)
    module = fit(tmp_path, callback)
    assert_equal(module, fit(tmp_path / "plain"))
    assert not any(searched for _, searched in module.watched)
    assert callback.search is None
    assert callback.report() == TargetReport()


class Fails(lightning.Callback):
    """Ends training in its third step, behind the forward pass."""

    def __init__(self, error):
        self.error = error

    def on_before_backward(self, trainer, module, loss):
        if trainer.global_step == 2:
            raise self.error


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt()], ids=repr)
def test_a_training_that_fails_or_is_interrupted_leaves_nothing(tmp_path, error, monkeypatch):
    # Lightning ignores further signals, and makes an exit of an interruption.
    monkeypatch.setattr("signal.signal", lambda *_: None)
    module = Classifier()
    with pytest.raises((type(error), SystemExit)):
        fit(tmp_path, TargetSearchCallback(SEARCH), Fails(error), module=module)
    assert module.watched == [("training", True)] * 3
    assert not is_searched(module)


def test_a_setter_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("brevitas_ftprop.targets.setters.SETTERS", dict(SETTERS))

    @register_setter
    class Fails(TargetSetter):
        name = "fails"

        def choose(self, h, grad, above, generator):
            raise ZeroDivisionError

    module = Classifier()
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, TargetSearchCallback("fails"), module=module)
    assert not is_searched(module)


def test_an_epoch_that_the_module_ends_early_is_searched_no_further(tmp_path):
    class EndsEarly(Classifier):
        def on_train_batch_start(self, batch, batch_idx):
            return -1 if batch_idx == 2 else None

        def on_train_epoch_end(self):
            self.watched.append(("epoch's end", is_searched(self)))

    module = fit(tmp_path, TargetSearchCallback(SEARCH), module=EndsEarly(), max_epochs=2)
    assert module.watched == [*[("training", True)] * 2, ("epoch's end", False)] * 2


def test_a_run_that_goes_on_from_a_checkpoint_searches_as_one_that_was_not_cut_off(tmp_path):
    whole, first = TargetSearchCallback(SEARCH), TargetSearchCallback(SEARCH)
    trained = fit(tmp_path / "whole", whole, max_epochs=2)
    saver = lightning.callbacks.ModelCheckpoint(tmp_path / "saved", filename="last")
    fit(tmp_path / "first", first, saver, enable_checkpointing=True)
    second = TargetSearchCallback(SEARCH)
    rest = fit(tmp_path / "second", second, checkpoint=tmp_path / "saved/last.ckpt", max_epochs=2)
    assert_equal(rest, trained)
    assert second.report() == whole.report()
    assert first.report().layers["net.1.act_quant"].chosen == 256
    assert whole.report().layers["net.1.act_quant"].chosen == 512
    assert not is_searched(rest)


def test_autocast_and_the_default_are_bit_for_bit_one_too(tmp_path):
    half = {"precision": "bf16-mixed"}
    callback = TargetSearchCallback(SEARCH)
    searched = fit(tmp_path, callback, **half)
    assert callback.report().layers["net.1.act_quant"].share > 0
    assert_equal(searched, fit(tmp_path / "plain", **half), equal=False)
    default = fit(tmp_path / "default", TargetSearchCallback("gradient_sign"), **half)
    assert_equal(default, fit(tmp_path / "again", **half))


def test_a_copy_of_the_module_and_its_state_hold_nothing_of_the_search(tmp_path):
    class Copies(lightning.Callback):
        def on_before_backward(self, trainer, module, loss):
            self.copy, self.state = copy.deepcopy(module), set(module.state_dict())

    copies = Copies()
    module = fit(tmp_path, TargetSearchCallback(SEARCH), copies)
    assert copies.state == set(module.state_dict())
    with torch.no_grad():
        images = torch.ones(2, 6)
        assert copies.copy.net(images).shape == (2, 2)


def test_what_cannot_be_searched_is_told_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"unknown target setter 'no_such'; valid are .*uniform"):
        TargetSearchCallback("no_such")
    with pytest.raises(ValueError, match="every must be a positive integer, not 0"):
        TargetSearchCallback(SEARCH, every=0)
    staircases = Classifier(act=TargetPropStaircase3ActPerTensorConst)
    with pytest.raises(ValueError, match="Classifier has no sign quantizers"):
        fit(tmp_path, TargetSearchCallback(SEARCH), module=staircases)


def test_a_compiled_module_is_refused_and_a_compiled_layer_without_quantizers_is_not(tmp_path):
    in_place, wrapped, layer = Classifier(), Classifier(), Classifier()
    in_place.net.compile(backend="eager")
    wrapped.net = torch.compile(wrapped.net, backend="eager")
    for compiled in (in_place, wrapped):
        with pytest.raises(ValueError, match=r"^net is compiled, which hides what runs in it"):
            fit(tmp_path, TargetSearchCallback(SEARCH), module=compiled)
        assert compiled.watched == []
    whole = torch.compile(Classifier(), backend="eager")
    with pytest.raises(ValueError, match=r"^Classifier is compiled"):
        fit(tmp_path, TargetSearchCallback(SEARCH), module=whole)
    layer.net[0].compile(backend="eager")
    search_targets(layer, SEARCH)
