"""What a run leaves behind is all that its network can be made of again."""

from __future__ import annotations

import hashlib
import json
import sys

import pytest
import torch
from torch import nn

pytest.importorskip("jsonargparse", reason="needs the extra 'examples'")

from lightning.pytorch.callbacks import Callback
from training import Data, TrainingError
from training.network import build_network
from training.result import hash_weights

from brevitas_ftprop import load_run

pytestmark = pytest.mark.heavy

SMALL = {"channels": [4, 4], "fc": 8}


class Keep(Callback):
    """The network that was trained, as it is in memory."""

    def on_fit_start(self, trainer, module) -> None:
        self.network = module.network


def rules_of(network: nn.Module) -> dict[str, str]:
    return {name: m.rule for name, m in network.named_modules() if hasattr(m, "rule")}


@pytest.mark.parametrize(
    "changes",
    [
        {"rule": "stock"},
        {"model_options": {"delay": 1000, "collect": 100}},
        {"ema": 0.9, "rule": "hinge", "saved": "compact"},
        {"model": "convnet4", "act": "staircase3", "weight_bits": 2, "model_options": SMALL},
        {"model": "finn:tiny_networks:floating", "act": "int2", "weight_rule": "hinge"},
    ],
    ids=["stock", "still delayed", "averaged", "ours", "quantized for FINN"],
)
def test_a_run_gives_its_network_again(tiny, run, tmp_path, changes):
    recipe = tiny.with_overrides(**changes, epochs=3, seed=4)
    keep = Keep()
    result = run(recipe, callbacks=[keep])
    loaded = load_run(tmp_path / "run")
    images = torch.randn(16, 3, 8, 8)
    assert torch.equal(loaded.model(images), keep.network.eval()(images))
    assert loaded.shape == (1, 3, 8, 8)
    assert (loaded.mean, loaded.std) == (recipe.data.mean, recipe.data.std)
    assert rules_of(loaded.model) == rules_of(build_network(recipe, result.classes)[0])


def test_the_module_of_an_own_network_is_recorded_and_another_one_refused(
    tiny, run, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "defining", raising=False)
    module = tmp_path / "defining.py"
    module.write_text("import tiny_networks\ndef build(): return tiny_networks.stateful()\n")
    (tmp_path / "naming.py").write_text("from defining import build\n")
    recipe = tiny.with_overrides(model="naming:build", epochs=1)
    result = run(recipe)
    assert result.source == hashlib.sha256(module.read_bytes()).hexdigest()[:16]
    load_run(tmp_path / "run")
    module.write_text(f"{module.read_text()}# changed\n")
    for go_on in (
        lambda: load_run(tmp_path / "run"),
        lambda: run(recipe.with_overrides(epochs=2), resume=True),
    ):
        with pytest.raises((ValueError, TrainingError), match=r"defining\.py is .*, and was"):
            go_on()
    assert "epochs: 1\n" in (tmp_path / "run" / "recipe.yaml").read_text()
    # Runs of before recorded nothing.
    file = tmp_path / "run" / "result.json"
    stored = json.loads(file.read_text())
    del stored["source"]
    file.write_text(json.dumps(stored))
    load_run(tmp_path / "run")
    for name in ("defining", "naming"):
        sys.modules.pop(name)


def test_a_run_that_was_cut_off_while_trained_longer_is_refused_until_it_has_ended(
    tiny, run, tmp_path
):
    class Cut(Callback):
        def on_train_epoch_start(self, trainer, module) -> None:
            if trainer.current_epoch == 1:
                raise KeyboardInterrupt

    recipe = tiny.with_overrides(epochs=1)
    run(recipe)
    longer = recipe.with_overrides(epochs=3)
    with pytest.raises(SystemExit):
        run(longer, resume=True, callbacks=[Cut()])
    with pytest.raises(FileNotFoundError, match="trained longer, from 1 to 3 epochs, and that has"):
        load_run(tmp_path / "run")
    load_run(tmp_path / "run", checkpoint=tmp_path / "run" / "weights.pt")
    keep = Keep()
    run(longer, resume=True, callbacks=[keep])
    images = torch.randn(16, 3, 8, 8)
    assert torch.equal(load_run(tmp_path / "run").model(images), keep.network.eval()(images))


def test_the_network_gives_the_accuracy_that_the_result_tells(tiny, run, tmp_path):
    from training.data import Images

    recipe = tiny.with_overrides(epochs=3)
    result = run(recipe)
    images = Images(recipe)
    pixels = images.set.test.decode(images.indices["test"])
    labels = torch.from_numpy(images.set.test.labels[images.indices["test"]])
    loaded = load_run(tmp_path / "run")
    mean, std = (torch.tensor(each).reshape(1, -1, 1, 1) for each in (loaded.mean, loaded.std))
    with torch.no_grad():
        found = loaded.model((pixels / 255 - mean) / std).argmax(-1)
    assert (found == labels).double().mean() == pytest.approx(result.test_accuracy)


def test_other_classes_are_told_by_the_result_and_a_checkpoint_may_take_the_weights_place(
    tiny, run, tmp_path
):
    data = Data(name="random", image_size=8, classes=3, train_images=64, test_images=8)
    recipe = tiny.with_overrides(model="convnet4", model_options=SMALL, data=data, epochs=1)
    result = run(recipe)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["classes"] == 3
    (checkpoint,) = (tmp_path / "run" / "checkpoints").glob("*.ckpt")
    (tmp_path / "run" / "weights.pt").unlink()
    loaded = load_run(tmp_path / "run", checkpoint=checkpoint)
    assert hash_weights(loaded.model) == result.final_weights


def test_lightnings_own_checkpoint_of_a_users_module_is_taken(tmp_path):
    import lightning
    from torch.utils.data import DataLoader, TensorDataset

    from brevitas_ftprop.runs.checkpoint import load_checkpoint

    class Module(lightning.LightningModule):
        def __init__(self, rate: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = torch.nn.Linear(2, 2)
            self.weighting = torch.nn.Linear(2, 1)

        def training_step(self, batch, index):
            return self.weighting(self.net(batch[0])).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), self.hparams.rate)

    module = Module()
    trainer = lightning.Trainer(
        accelerator="cpu", max_steps=2, logger=False, default_root_dir=tmp_path,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(torch.randn(4, 2)), batch_size=2))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    fresh = torch.nn.Linear(2, 2)
    load_checkpoint(fresh, tmp_path / "last.ckpt")
    assert torch.equal(fresh.weight, module.net.weight)
