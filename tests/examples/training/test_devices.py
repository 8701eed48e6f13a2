"""Two processes that train together (gloo): the same weights, scales and statistics in each."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("jsonargparse", reason="needs the extra 'examples'")

from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_only
from training import Result, Run, checkpoint, train
from training.checkpoint import last_checkpoint, load_checkpoint
from training.quantizer_state import quantizer_state
from training.result import hash_weights

pytestmark = pytest.mark.heavy

TOGETHER = Run(
    accelerator="cpu",
    devices=2,
    strategy="ddp",
    checkpoint_every=2,
    progress=False,
    log=False,
    threads=1,
)


class WriteDown(Checkpoint):
    """Hashes of all that a process has after each batch; a checkpoint, so that it comes last."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.seen.append(f"{hash_weights(module.network)} {quantizer_state(module.network)}")


def one_of_two(rank: int, port: int, recipe: Any, out: Path, resume: bool) -> None:
    # What torchrun sets.
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }
    rank_zero_only.rank = rank
    write_down = WriteDown()
    result = train(recipe, out, replace(TOGETHER, resume=resume), callbacks=[write_down])
    seen = {"seen": write_down.seen, "final": result.final_weights}
    (out / f"rank{rank}.json").write_text(json.dumps(seen))


def train_together(recipe: Any, out: Path, *, resume: bool = False) -> list[dict[str, Any]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Forked, since importing everything anew takes longer than the training.
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=one_of_two, args=(rank, port, recipe, out, resume))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    return [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture
def statistics(tiny):
    # A quantizer that is not yet in use gets no gradient, which DDP takes for a mistake.
    return tiny.with_overrides(model_options={"collect": 4, "delay": 0})


def test_both_have_the_same_weights_scales_and_statistics_after_every_batch(statistics, tmp_path):
    out = tmp_path / "together"
    first, second = train_together(statistics.with_overrides(ema=0.9, test="end"), out)
    assert len(first["seen"]) == 6
    assert first == second
    # And they are what is saved.
    saved = load_checkpoint(last_checkpoint(out / "checkpoints"))["current_model_state"]
    assert str(saved["_extra_state"]) in first["seen"][-1]
    result = Result.read(out / "result.json")
    assert result.devices == 2
    assert result.test_accuracy is not None
    weights = torch.load(out / "weights.pt", weights_only=True)
    scale = "0.act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl.value"
    assert weights[scale] != 1.0


def test_both_go_on_from_a_checkpoint_within_an_epoch(statistics, tmp_path, monkeypatch):
    out = tmp_path / "together"
    with monkeypatch.context() as patch:
        # The last one within an epoch stays, as after a run that was killed behind it.
        patch.setattr(checkpoint, "keep_only", lambda path: None)
        whole, _ = train_together(statistics, out)
    (out / "result.json").unlink()
    (out / "checkpoints" / "00000006-epoch.ckpt").unlink()
    resumed = train_together(statistics, out, resume=True)
    assert resumed == [{"seen": whole["seen"][4:], "final": whole["final"]}] * 2


def test_two_devices_take_the_steps_of_one(tiny, run, tmp_path):
    recipe = tiny.with_overrides(
        model="convnet4", model_options={"channels": [4, 4], "fc": 8}, act="staircase3"
    )
    train_together(recipe, tmp_path / "together")
    together, alone = Result.read(tmp_path / "together" / "result.json"), run(recipe, "alone")
    assert together.initial_weights == alone.initial_weights
    assert together.images == alone.images
    for two, one in zip(together.curve, alone.curve, strict=True):
        assert two.train_loss == pytest.approx(one.train_loss, rel=1e-4)
        assert two.train_accuracy == pytest.approx(one.train_accuracy, abs=0.011)
        assert two.test_accuracy == pytest.approx(one.test_accuracy, abs=0.041)


def test_both_search_for_targets_and_have_the_same_weights(tiny, tmp_path):
    recipe = tiny.with_overrides(
        model="convnet4", model_options={"channels": [4, 4], "fc": 8}, act="sign", epochs=1
    )
    plain, _ = train_together(recipe, tmp_path / "plain")
    searched = recipe.with_overrides(targets="local_search(candidates=2)")
    first, second = train_together(searched, tmp_path / "searched")
    assert first == second
    assert first["final"] != plain["final"]
    result = Result.read(tmp_path / "searched" / "result.json")
    assert all(0 < share < 1 for share in result.targets_changed.values())
    assert result.targets_left == {}
