"""A run that was cut off anywhere ends as one that was not."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

pytest.importorskip("jsonargparse", reason="needs the extra 'examples'")

import torch
import train
import yaml
from lightning.pytorch.callbacks import Callback, Checkpoint
from training import Recipe, Result, Schedule, TrainingError
from training.checkpoint import AtomicCheckpointIO, keep_only, last_checkpoint

from brevitas_ftprop.export.output_file import TEMPORARY

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).resolve().parents[3]


class KeepAll(Checkpoint):
    """Copies each checkpoint before the next replaces it."""

    def __init__(self, folder: Path, copies: Path) -> None:
        self.folder, self.copies = folder, copies
        copies.mkdir()

    def keep(self, *_) -> None:
        for path in self.folder.glob("*.ckpt"):
            if not (self.copies / path.name).exists():
                shutil.copy(path, self.copies)

    on_train_batch_start = on_train_epoch_start = on_train_end = keep


def bare(result: Result) -> list[dict]:
    """The curve without what depends on the clock."""
    clock = ("seconds", "images_per_second")
    return [{k: v for k, v in asdict(e).items() if k not in clock} for e in result.curve]


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": Schedule(name="cosine", warmup_epochs=0.5), "clip_weights": True},
        {"ema": 0.9, "accumulate": 2},
        pytest.param(
            {"model": "convnet8", "data__image_size": 32, "rule": "hinge"}, marks=pytest.mark.slow
        ),
    ],
    ids=["statistics and clipping", "averaged and accumulated", "dropout"],
)
def test_a_run_resumed_from_any_checkpoint_ends_with_the_same_weights(tiny, run, tmp_path, changes):
    recipe = tiny.with_overrides(**changes)
    copies = tmp_path / "copies"
    keep = KeepAll(tmp_path / "whole" / "checkpoints", copies)
    whole = run(recipe, "whole", checkpoint_every=1, callbacks=[keep])
    names = sorted(path.stem for path in copies.iterdir())
    assert names == [f"{step:08d}-{'epoch' if step % 3 == 0 else 'batch'}" for step in range(1, 7)]
    for path in copies.iterdir():
        folder = tmp_path / path.stem / "checkpoints"
        folder.mkdir(parents=True)
        shutil.copy(path, folder)
        resumed = run(recipe, path.stem, resume=True)
        assert resumed.resumed == 1
        assert resumed.final_weights == whole.final_weights
        assert bare(resumed) == bare(whole)


def command(recipe: Recipe, out: Path, *more: str) -> list[str]:
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(recipe.to_dict()))
    options = ["--accelerator", "cpu", "--progress", "false", "--log", "false", "--threads", "1"]
    script = str(ROOT / "examples" / "train.py")
    return [sys.executable, script, "--config", str(path), "--out", str(out), *options, *more]


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(tiny, run, tmp_path):
    recipe = tiny.with_overrides(epochs=8, test="end", data__validation_images=0)
    out = tmp_path / "killed"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        command(recipe, out, "--checkpoint_every", "2"),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None and not list(out.glob("checkpoints/*-batch.ckpt")):
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "result.json").exists()
    rest = run(recipe, out, resume=True)
    assert rest.resumed == 1
    assert rest.final_weights == run(recipe, "whole").final_weights


def test_a_checkpoint_that_is_cut_off_or_changed_is_passed_over(tiny, run, tmp_path):
    whole = run(tiny, "whole", checkpoint_every=2)
    folder = tmp_path / "whole" / "checkpoints"
    good = last_checkpoint(folder)
    contents = good.read_bytes()
    (folder / "00000098-batch.ckpt").write_bytes(contents[: len(contents) // 2])
    changed = bytearray(contents)
    changed[len(contents) // 2] ^= 1
    (folder / "00000099-epoch.ckpt").write_bytes(changed)
    (folder / f"{TEMPORARY}cut_off").write_bytes(contents)
    assert last_checkpoint(folder) == good
    (tmp_path / "whole" / "result.json").unlink()
    assert run(tiny, "whole", resume=True).final_weights == whole.final_weights
    assert list(folder.iterdir()) == [good]


def save_on_and_on(folder: Path, first: int) -> None:
    last = last_checkpoint(folder)
    if last is not None:
        keep_only(last)
    contents = {"state_dict": {"weight": torch.zeros(1000)}}
    for step in itertools.count(first):
        kind = "epoch" if step % 3 == 0 else "batch"
        AtomicCheckpointIO().save_checkpoint(contents, folder / f"{step:08d}-{kind}.ckpt")


def test_killed_runs_leave_at_most_one_checkpoint_more_than_the_last_good_one(tmp_path):
    context = multiprocessing.get_context("fork")
    first, last = 0, None
    for _ in range(15):
        process = context.Process(target=save_on_and_on, args=(tmp_path, first))
        process.start()
        deadline = time.monotonic() + 60
        while last_checkpoint(tmp_path) == last and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02 * random.random())
        process.kill()
        process.join()
        assert len(list(tmp_path.iterdir())) <= 2
        last = last_checkpoint(tmp_path)
        assert last is not None
        first = int(last.stem.partition("-")[0]) + 1
    assert first >= 15


def test_a_recipe_is_there_whole_or_not_at_all(tiny, run, tmp_path, monkeypatch):
    def cut_off(descriptor):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", cut_off)
        with pytest.raises(KeyboardInterrupt):
            run(tiny, "out")
    assert not (tmp_path / "out" / "recipe.yaml").exists()
    run(tiny, "out")
    written = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    assert written == tiny.to_dict()
    assert not list((tmp_path / "out").glob(f"{TEMPORARY}*"))


def test_another_recipe_is_refused_by_the_fields_that_differ(tiny, run):
    run(tiny, "out")
    other = tiny.with_overrides(rule="hinge", optimizer__lr=1.0)
    with pytest.raises(
        TrainingError, match=r"another recipe, which differs in rule, optimizer\.lr"
    ):
        run(other, "out", resume=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": Schedule(name="step", milestones=[1, 3], warmup_epochs=0.5)},
        {"ema": 0.9, "test": "end"},
    ],
    ids=["steps", "averaged"],
)
def test_a_run_made_longer_ends_as_one_that_was_as_long_from_the_start(
    tiny, run, tmp_path, changes
):
    short, long = (tiny.with_overrides(**changes, epochs=epochs) for epochs in (2, 4))
    whole = run(long, "whole")
    first = run(short, "out")
    # Killed on its way, it is still a run that can be gone on with.
    with pytest.raises(ZeroDivisionError):
        run(long, "out", resume=True, callbacks=[FailAtEpoch(3)])
    assert yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())["epochs"] == 4
    assert Result.read(tmp_path / "out" / "result.json") == first
    longer = run(long, "out", resume=True)
    assert longer.final_weights == whole.final_weights != first.final_weights
    assert bare(longer) == bare(whole)
    assert Result.read(tmp_path / "out" / "result.json") == longer


class FailAtEpoch(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if trainer.current_epoch == self.epoch:
            raise ZeroDivisionError


@pytest.mark.parametrize(
    ("changes", "epochs", "message"),
    [
        ({"schedule": Schedule(name="cosine")}, 4, "schedule cosine has taken the learning rate"),
        ({"rule": "ede"}, 4, "rule ede has changed its slope"),
        ({}, 1, "is of 2 epochs, which cannot become 1"),
    ],
)
def test_a_run_that_would_have_been_another_one_is_not_made_longer(
    tiny, run, changes, epochs, message
):
    recipe = tiny.with_overrides(**changes)
    run(recipe, "out")
    with pytest.raises(TrainingError, match=message):
        run(recipe.with_overrides(epochs=epochs), "out", resume=True)


def test_resume_alone_reads_the_recipe_and_more_epochs_train_longer(tiny, run, tmp_path, capsys):
    out = tmp_path / "out"
    run(tiny, out)
    resume = ["--resume", "--out", str(out), "--accelerator", "cpu", "--log", "false"]
    assert train.main([*resume, "--epochs", "3"]) == 0
    told = capsys.readouterr().out
    assert "training longer: from 2 to 3 epochs" in told
    assert "the learning rate stays what it is" in told
    assert "epoch 3/3" in told
    assert Result.read(out / "result.json").recipe == tiny.with_overrides(epochs=3).to_dict()
    assert train.main(resume) == 0
    nowhere = str(tmp_path / "nowhere")
    assert train.main(["--resume", "--out", nowhere]) == 2
    assert "nowhere holds no run to go on with" in capsys.readouterr().err


def test_a_finished_run_is_returned_without_being_repeated(tiny, run):
    first = run(tiny, "out")
    assert run(tiny, "out", resume=True) == first


def test_to_resume_where_nothing_is_starts_anew(tiny, run):
    assert run(tiny, "out", resume=True).resumed == 0
