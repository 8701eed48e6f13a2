"""What is said when a run cannot start or go on."""

from __future__ import annotations

import fcntl
import signal
from typing import Any

import pytest
import torch
from brevitas.nn import QuantIdentity
from torch import nn

pytest.importorskip("jsonargparse", reason="needs the extra 'examples'")

from lightning.pytorch.callbacks import Callback
from training import TrainingError
from training.checkpoint import AtomicCheckpointIO, last_checkpoint
from training.failures import first_non_finite


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), QuantIdentity(), nn.Tanh(), nn.Linear(4, 2))


class Broken(nn.Module):
    """The identity, or not, in either direction."""

    def __init__(self, output: float = 1.0, grad: float = 1.0) -> None:
        super().__init__()
        self.output, self.grad = output, grad

    def forward(self, x):
        if x.requires_grad:
            x = x * 1
            x.register_hook(lambda grad: grad * self.grad)
        return x * self.output


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Broken(output=float("nan")), "the output of layer 2 has values that are not finite"),
        (
            Broken(grad=float("inf")),
            "the gradient of layer 1.act_quant's output has values that are not finite",
        ),
    ],
)
def test_the_first_layer_with_a_value_that_is_not_finite_is_named(broken, message):
    model = network()
    model[2] = broken
    images = torch.randn(8, 4)
    assert first_non_finite(model, images, lambda out: out.square().sum()) == message


def test_parameters_and_images_that_are_not_finite_are_named():
    model, images = network(), torch.randn(8, 4)
    with torch.no_grad():
        model[3].bias[1] = torch.inf
    loss = torch.sum
    assert first_non_finite(model, images, loss) == "3.bias has values that are not finite"
    images[0, 0] = torch.nan
    assert first_non_finite(model, images, loss).startswith("the images hold values")


class Spoil(Callback):
    """Sets a weight of a layer after the second step."""

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if trainer.global_step == 2:
            with torch.no_grad():
                module.network[10].weight.fill_(torch.inf)


def test_a_loss_that_is_not_finite_ends_the_run_and_names_layer_and_step(tiny, run):
    with pytest.raises(TrainingError, match=r"step 3 \(epoch 1\): 10\.weight has values"):
        run(tiny, callbacks=[Spoil()])


def test_a_network_that_returns_no_tensor_is_told_as_check_tells_it(tiny, run):
    with pytest.raises(TrainingError, match="returns a dict: return one plain tensor, the logits"):
        run(tiny.with_overrides(model="tiny_networks:giving_a_dict"))


def test_an_interrupt_waits_until_a_file_is_written(tmp_path, monkeypatch):
    saved = torch.save

    def interrupted_save(*arguments):
        signal.raise_signal(signal.SIGINT)
        saved(*arguments)

    monkeypatch.setattr("torch.save", interrupted_save)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        AtomicCheckpointIO().save_checkpoint({"a": torch.ones(3)}, tmp_path / "one.ckpt")
    assert signal.getsignal(signal.SIGINT) == handler
    assert last_checkpoint(tmp_path) == tmp_path / "one.ckpt"


def test_a_batch_that_does_not_fit_is_told_with_what_to_change(tiny, run):
    recipe = tiny.with_overrides(model="tiny_networks:out_of_memory", accumulate=2)
    with pytest.raises(TrainingError, match=r"a batch of 16 images .* raise accumulate \(now 2"):
        run(recipe)


def test_a_folder_in_use_is_left_alone(tiny, run, tmp_path):
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TrainingError, match="is in use by another run"):
            run(tiny)


def test_a_folder_with_a_run_is_not_overwritten(tiny, run):
    run(tiny)
    with pytest.raises(TrainingError, match="holds a run already: pass --resume"):
        run(tiny)


def test_a_spoiled_result_is_named(tiny, run, tmp_path):
    run(tiny)
    (tmp_path / "run" / "result.json").write_text("{}")
    with pytest.raises(
        ValueError, match=r"run/result\.json is not the result of a run .* --resume"
    ):
        run(tiny, resume=True)


def test_a_batch_that_cannot_be_split_over_the_devices_is_refused(tiny, run):
    with pytest.raises(TrainingError, match="cannot be split evenly over 3 devices"):
        run(tiny, devices=3, strategy="ddp_spawn")


def test_half_precision_on_the_cpu_is_refused(tiny, run):
    with pytest.raises(TrainingError, match="fp16 needs a GPU"):
        run(tiny.with_overrides(precision="fp16"))
