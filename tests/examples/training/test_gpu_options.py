"""What keeps a GPU busy, as far as a CPU has it too: the same numbers, or a refusal by name."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("jsonargparse", reason="needs the extra 'examples'")

from lightning.pytorch.callbacks import Callback
from torchmetrics.classification import MulticlassAccuracy
from torchvision.datasets import FakeData
from torchvision.io import write_png
from training import Optimizer, TrainingError
from training.classifier import Classifier
from training.data.images import mean_and_std
from training.data.streamed import StreamedImages
from training.metrics import Accuracy


def counted(top: int) -> MulticlassAccuracy:
    return MulticlassAccuracy(10, top_k=top, average="micro", validate_args=False)


@pytest.mark.parametrize("top", [1, 5])
def test_sums_on_the_device_are_the_accuracy_of_torchmetrics(top):
    ours, expected = Accuracy(top), counted(top)
    for count in (64, 64, 7):
        # Of few values, so that logits are equal now and then.
        logits, labels = torch.randint(6, (count, 10)).float(), torch.randint(10, (count,))
        ours.update(logits, labels)
        expected.update(logits, labels)
    assert ours.compute() == expected.compute()
    ours.reset()
    assert ours.compute() == 0


def test_counts_of_an_older_checkpoint_go_on():
    old, now = counted(1), Accuracy()
    old.persistent(True)
    now.persistent(True)
    logits, labels = torch.randn(50, 10), torch.randint(10, (50,))
    old.update(logits, labels)
    now.load_state_dict(old.state_dict())
    assert now.compute() == old.compute() > 0
    one, other = torch.randn(9, 10), torch.randint(10, (9,))
    for metric in (old, now):
        metric.update(one, other)
    assert now.compute() == old.compute()


def test_mean_and_deviation_are_made_once_and_serve_training_after_an_evaluation():
    key = (0.5, 0.25), (0.125, 1.0), torch.device("cpu")
    mean_and_std.cache_clear()
    with torch.inference_mode():
        mean, std = mean_and_std(*key)
    assert mean_and_std(*key)[0] is mean
    assert mean.flatten().tolist() == [127.5, 63.75]
    assert std.flatten().tolist() == [31.875, 255.0]
    # A tensor of an evaluation's own could not be kept for a backward pass.
    ((torch.ones(2, 1, 1, requires_grad=True) * mean) / std).sum().backward()


def test_workers_live_on_from_epoch_to_epoch(tmp_path):
    image = str(tmp_path / "image.png")
    write_png(torch.zeros(3, 4, 4, dtype=torch.uint8), image)
    folder = FakeData(8, (3, 4, 4))
    folder.samples = [(image, label) for label in range(8)]
    streamed = StreamedImages(
        folder, lambda image: torch.tensor(os.getpid()), 4, seed=0, workers=1, pin=False
    )
    batches = [np.array([0, 1]), np.array([2, 3])]
    seen = {
        int(process)
        for epoch in range(3)
        for processes, _ in streamed.fetch(epoch, batches)
        for process in processes
    }
    assert len(seen) == 1
    assert seen != {os.getpid()}


class Layout(Callback):
    """What the network is given and has."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        form = torch.channels_last
        self.images = batch[0]
        tensors = [self.images, *(p for p in module.network.parameters() if p.ndim == 4)]
        self.is_last = all(tensor.is_contiguous(memory_format=form) for tensor in tensors)
        self.finite_every = module.finite_every


def test_channels_last_reaches_images_and_weights_and_changes_neither(tiny, run):
    before, layout = Layout(), Layout()
    plain = run(tiny, "plain", callbacks=[before])
    last = run(replace(tiny, channels_last=True), "last", callbacks=[layout])
    assert not before.is_last
    assert layout.is_last
    assert torch.equal(layout.images, before.images)
    assert last.initial_weights == plain.initial_weights
    # Goes on in the same layout, to the same weights.
    again = run(replace(tiny, channels_last=True), "last", resume=True)
    assert again.final_weights == last.final_weights


def test_a_cpu_looks_at_every_step(tiny, run):
    layout = Layout()
    run(tiny, callbacks=[layout], fast_dev_run=True)
    assert layout.finite_every == 1


def test_a_gpu_looks_at_every_hundredth(tiny):
    module = Classifier(torch.nn.Linear(2, 2), tiny, 10, 1, [])
    # As on a GPU: the device is what Lightning tells the module.
    module._device = torch.device("cuda:0")
    module.on_train_start()
    assert module.finite_every == 100


def test_a_fused_optimizer_takes_the_steps_of_the_plain_one(tiny, run):
    plain = run(tiny, "plain")
    fused = run(replace(tiny, optimizer=Optimizer(lr=3e-3, options={"fused": True})), "fused")
    for one, other in zip(plain.curve, fused.curve, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-2)


def test_an_optimizer_that_has_no_fused_form_is_named(tiny, run):
    with pytest.raises(TrainingError, match="optimizer rprop"):
        run(replace(tiny, optimizer=Optimizer(name="rprop", options={"fused": True})))


def test_graphs_are_refused_where_there_is_no_gpu(tiny, run):
    with pytest.raises(TrainingError, match="reduce-overhead records CUDA graphs and needs a GPU"):
        run(replace(tiny, compile="reduce-overhead"))


def test_what_cudnn_may_try_is_set_for_the_run_alone(tiny, run):
    class Seen(Callback):
        def on_train_batch_start(self, *_):
            self.benchmark = torch.backends.cudnn.benchmark

    seen = Seen()
    assert not torch.backends.cudnn.benchmark
    run(replace(tiny, cudnn_benchmark=True), callbacks=[seen], fast_dev_run=True)
    assert seen.benchmark
    assert not torch.backends.cudnn.benchmark
