"""The Lightning callback: one line in a trainer."""

from __future__ import annotations

import pytest
import torch
from brevitas.nn import QuantIdentity
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from brevitas_ftprop.quant import TargetPropSignedBinaryActPerTensorConst

lightning = pytest.importorskip("lightning.pytorch")
from lightning.pytorch.loggers import CSVLogger  # noqa: E402

from brevitas_ftprop.monitor.callback import MonitorCallback  # noqa: E402


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(6, 8),
            QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst),
            nn.Linear(8, 2),
        )

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, _):
        self(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 6, generator=generator)
    return DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=4)


def fit(tmp_path, callbacks, **options):
    torch.manual_seed(0)
    module = Classifier()
    trainer = lightning.Trainer(
        accelerator="cpu",
        callbacks=callbacks,
        logger=CSVLogger(tmp_path, name="", version="log"),
        max_epochs=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **options,
    )
    trainer.fit(module, data(), data())
    return module


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("accumulated", [1, 2])
def test_figures_reach_the_loggers_and_the_weights_do_not_change(tmp_path, accumulated):
    images = torch.ones(3, 6)
    callback = MonitorCallback(every=2, probe=lambda module: module(images).sum())
    options = {"accumulate_grad_batches": accumulated}
    watched = fit(tmp_path, [callback], **options)
    plain = fit(tmp_path / "plain", [], **options)
    for one, other in zip(watched.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)
    steps = 8 // accumulated
    assert [entry["step"] for entry in callback.monitor.history] == list(range(0, steps, 2))
    header, *rows = (tmp_path / "log" / "metrics.csv").read_text().splitlines()
    assert "target_prop/net.1.act_quant/at_target" in header
    assert len(rows) == steps // 2
    assert not watched.net[1].act_quant._forward_hooks


@pytest.mark.filterwarnings("ignore")
def test_a_training_that_fails_leaves_no_hooks(tmp_path):
    class Broken(lightning.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            self.module = module
            raise ZeroDivisionError

    broken, callback = Broken(), MonitorCallback(every=1)
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, [callback, broken])
    assert not broken.module.net[1].act_quant._forward_hooks


def test_options_are_refused_before_the_training():
    with pytest.raises(ValueError, match=r"must be positive integers, not 1\.5 and 256"):
        MonitorCallback(every=1.5)
