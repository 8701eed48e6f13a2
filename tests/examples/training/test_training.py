"""What a run computes, and what it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from brevitas.core.utils import StatelessBuffer
from torch import Tensor
from torch.nn import functional

from brevitas_ftprop import restore_quantizers, swap_quantizers

pytest.importorskip("jsonargparse", reason="needs the extra 'examples'")

from lightning.pytorch.callbacks import Callback
from training import Data, Loss, Optimizer, Recipe, Result
from training.losses import build_loss
from training.network import build_network
from training.result import versions


@pytest.fixture
def plain(tiny) -> Recipe:
    """No batch norm and no statistics, so that a batch may be split."""
    return tiny.with_overrides(
        model="convnet4", model_options={"channels": [4, 4], "fc": 8}, act="sign", epochs=1
    )


def weights(tmp_path: Path, out: str = "run") -> dict[str, Tensor]:
    return torch.load(tmp_path / out / "weights.pt", weights_only=True)


def test_a_run_leaves_its_result_weights_recipe_and_logs(tiny, run, tmp_path):
    result = run(tiny, log=True)
    out = tmp_path / "run"
    assert Result.read(out / "result.json") == result
    assert json.loads((out / "result.json").read_text())["recipe"] == tiny.to_dict()
    assert Recipe.from_dict(result.recipe) == tiny
    assert [epoch.epoch for epoch in result.curve] == [1, 2]
    assert result.images == {"train": 96, "validation": 40, "test": 50}
    assert result.test_accuracy == result.curve[-1].test_accuracy
    assert result.validation_accuracy == result.curve[-1].validation_accuracy
    assert result.curve[0].train_loss > 0
    assert result.initial_weights != result.final_weights
    # Images depend on torchvision's decoder, and the digits on scikit-learn.
    assert {"torch", "torchvision", "scikit-learn"} <= result.versions.keys()
    assert (out / "recipe.yaml").exists()
    assert list(out.glob("csv/*/metrics.csv"))
    assert list(out.glob("tensorboard/*/events*"))


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr("training.result.PACKAGES", ("torch", "no-such-package"))
    assert versions().keys() == {"python", "brevitas-ftprop", "torch"}


def test_a_monitored_run_logs_its_figures_and_computes_the_same(tiny, run, tmp_path):
    plain, watched = run(tiny, "plain"), run(tiny, "watched", log=True, monitor=2)
    assert watched.final_weights == plain.final_weights
    (logged,) = (tmp_path / "watched").glob("csv/*/metrics.csv")
    assert "target_prop/" in logged.read_text()


def test_two_runs_of_a_recipe_are_equal_and_another_seed_is_not(tiny, run):
    one, other = run(tiny, "one"), run(tiny, "other")
    assert one.final_weights == other.final_weights
    assert run(tiny.with_overrides(seed=1), "seed").final_weights != one.final_weights


def test_the_weights_load_into_a_stock_network_and_into_a_converted_one(tiny, run, tmp_path):
    run(tiny)
    image = torch.rand(4, 3, 8, 8)
    outputs = []
    for rule in ("stock", "soft_hinge"):
        network, _ = build_network(tiny.with_overrides(rule=rule, model_options={"delay": 0}), 10)
        network.load_state_dict(weights(tmp_path))
        outputs.append(network.eval()(image))
        (swap_quantizers if rule == "stock" else restore_quantizers)(network)
        outputs.append(network.eval()(image))
    for output in outputs[1:]:
        assert torch.equal(output, outputs[0])


def test_a_stock_run_equals_one_of_the_rule_that_stock_follows(tiny, run):
    recipe = tiny.with_overrides(
        model="brevitas:cnv_1w1a",
        data__image_size=32,
        data__train_images=32,
        batch_size=16,
        epochs=1,
    )
    stock, ours = (
        run(recipe.with_overrides(rule=rule), rule) for rule in ("stock", "saturated_ste")
    )
    assert stock.initial_weights == ours.initial_weights
    assert stock.final_weights == ours.final_weights


def test_accumulated_parts_are_one_batch(plain, run, tmp_path):
    run(plain, "whole")
    run(plain.with_overrides(accumulate=4), "parts")
    for name, value in weights(tmp_path, "whole").items():
        torch.testing.assert_close(weights(tmp_path, "parts")[name], value, atol=2e-5, rtol=1e-3)


def test_a_compiled_network_is_the_eager_one(plain, run, tmp_path):
    run(plain, "eager")
    run(plain.with_overrides(compile="aot_eager"), "compiled")
    eager, compiled = weights(tmp_path, "eager"), weights(tmp_path, "compiled")
    assert list(eager) == list(compiled)
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, atol=2e-5, rtol=1e-3)


def test_bfloat16_trains_close_to_float32(plain, run):
    recipe = plain.with_overrides(act="staircase3", epochs=2)
    full, half = run(recipe, "32"), run(recipe.with_overrides(precision="bf16"), "bf16")
    assert half.final_weights != full.final_weights
    assert half.curve[-1].train_loss == pytest.approx(full.curve[-1].train_loss, rel=0.1)


def test_deterministic_algorithms_are_used_while_the_run_lasts(plain, run):
    used = []
    look = Watch(lambda _: used.append(torch.are_deterministic_algorithms_enabled()))
    run(plain.with_overrides(deterministic=True), callbacks=[look])
    assert all(used)
    assert not torch.are_deterministic_algorithms_enabled()


class Watch(Callback):
    """Calls a function with the network after each step."""

    def __init__(self, look: Any) -> None:
        self.look = look

    def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
        self.look(module.network)


def test_clipped_weights_stay_within_one(tiny, run):
    largest = []

    def look(network):
        largest.append(
            max(
                float(m.weight.abs().max())
                for m in network.conv_features
                if hasattr(m, "weight_quant")
            )
        )

    recipe = tiny.with_overrides(
        model="brevitas:cnv_2w2a",
        rule="stock",
        data__image_size=32,
        data__train_images=24,
        batch_size=8,
        epochs=1,
        loss=Loss(name="squared_hinge"),
        optimizer=Optimizer(lr=0.5),
        clip_weights=True,
    )
    run(recipe, callbacks=[Watch(look)])
    assert max(largest) == 1.0
    run(recipe.with_overrides(clip_weights=False), "free", callbacks=[Watch(look)])
    assert max(largest) > 1.0


def test_an_average_of_weights_leaves_constants_as_they_are(tiny, run):
    networks = []
    run(tiny.with_overrides(ema=0.7, epochs=4), callbacks=[Watch(networks.append)])
    fresh, _ = build_network(tiny, 10)
    for (name, module), other in zip(fresh.named_modules(), networks[-1].modules(), strict=True):
        if isinstance(module, StatelessBuffer):
            assert torch.equal(module.value, other.value), name


def test_the_average_of_weights_starts_when_scales_have_been_collected(tiny, run, tmp_path):
    recipe = tiny.with_overrides(model_options={"collect": 3}, epochs=1, ema=0.999)
    run(recipe, "averaged")
    run(recipe.with_overrides(ema=None), "last")
    scale = "0.act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl.value"
    # Collected in these three steps; the placeholder is 1.
    assert torch.equal(weights(tmp_path, "averaged")[scale], weights(tmp_path, "last")[scale])


@pytest.mark.parametrize("test", ["epoch", "end", "never"])
def test_the_test_images_are_seen_as_often_as_wanted(tiny, run, test):
    result = run(tiny.with_overrides(test=test))
    seen = [epoch.test_accuracy is not None for epoch in result.curve]
    assert seen == [test == "epoch"] * 2
    assert (result.test_accuracy is None) == (test == "never")
    assert result.validation_accuracy is not None
    if test == "end":
        assert result.test_accuracy == run(tiny, "each").test_accuracy


def test_the_losses_are_those_of_torch_and_of_brevitas_trainer():
    logits, labels = torch.randn(5, 10), torch.randint(0, 10, (5,))
    smooth = build_loss(Loss(label_smoothing=0.1))(logits, labels)
    torch.testing.assert_close(
        smooth, functional.cross_entropy(logits, labels, label_smoothing=0.1)
    )
    targets = 2 * functional.one_hot(labels, 10) - 1
    hinge = build_loss(Loss(name="squared_hinge"))(logits, labels)
    torch.testing.assert_close(hinge, (1 - logits * targets).clamp(min=0).square().mean())


def test_a_fast_run_writes_nothing(tiny, run, tmp_path):
    result = run(tiny.with_overrides(epochs=100, batch_size=64), fast_dev_run=True)
    assert len(result.curve) == 1
    assert list(tmp_path.iterdir()) == []


def test_random_images_measure_speed(plain, run):
    data = Data(name="random", image_size=8, train_images=64, test_images=8)
    assert run(plain.with_overrides(data=data)).images_per_second > 0
