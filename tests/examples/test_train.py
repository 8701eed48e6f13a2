"""The command: every recipe runs, on real images where there are some; errors are one sentence."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from torchvision.io import write_jpeg

pytest.importorskip("jsonargparse", reason="needs the extra 'examples'")

import train
from training import Result

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "examples" / "recipes").glob("*.yaml"))
# Mixtures of other recipes of their networks, which differ in activation and rule alone.
MIXED = ("sign_sste", "staircase3_ftp_sh", "staircase5_ftp_sh", "staircase5_sste", "1w2a", "2w2a")
IMAGENET = [path for path in RECIPES if "imagenet" in path.read_text()]
SMALL = [path for path in RECIPES if path not in IMAGENET]
FAST = ["--fast-dev-run", "--accelerator", "cpu", "--progress", "false"]
QUIET = ["--accelerator", "cpu", "--progress", "false", "--log", "false"]


def stem(path: Path) -> str:
    return path.stem


def mixed_slow(paths: list[Path]) -> list[Any]:
    return [
        pytest.param(path, marks=[pytest.mark.slow] * path.stem.endswith(MIXED)) for path in paths
    ]


@pytest.mark.parametrize("path", mixed_slow(SMALL), ids=stem)
def test_a_small_recipe_runs(path):
    assert train.main(["--config", str(path), "--data.name", "random", *FAST]) == 0


@pytest.mark.parametrize("path", mixed_slow(IMAGENET), ids=stem)
def test_an_imagenet_recipe_runs_in_small(path):
    narrow = "base" if "resnet" in path.stem else "fc"
    small = ["--data.name", "random", "--data.image_size", "64", f"--model_options.{narrow}", "16"]
    assert train.main(["--config", str(path), *small, *FAST]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("path", IMAGENET, ids=stem)
def test_an_imagenet_recipe_runs_at_its_own_size(path):
    assert train.main(["--config", str(path), "--data.name", "random", *FAST]) == 0


@pytest.fixture
def jpegs(cifar10, tmp_path) -> Path:
    """400 images of CIFAR-10 as an ImageFolder: 300 to train on and 100 to test."""
    for number, (image, label) in enumerate(zip(cifar10.images, cifar10.labels, strict=True)):
        folder = tmp_path / "cifar" / ("train" if number < 300 else "test") / str(int(label))
        folder.mkdir(parents=True, exist_ok=True)
        write_jpeg((image * 255).byte(), str(folder / f"{number:03}.jpg"))
    return tmp_path / "cifar"


def test_real_images_are_trained_on_and_options_override_the_recipe(jpegs, tmp_path, capsys):
    recipe = ROOT / "examples" / "recipes" / "convnet4_sign_ftp_sh.yaml"
    out = tmp_path / "out"
    options = ["--data.name", "image_folder", "--data.root", str(jpegs), "--epochs", "2"]
    rule = ["--rule", "SSTE", "--optimizer.lr", "1e-3", "--data.validation_images", "50"]
    arguments = ["--config", str(recipe), "--out", str(out), *options, *rule, *QUIET]
    assert train.main(arguments) == 0
    result = Result.read(out / "result.json")
    assert result.recipe["rule"] == "saturated_ste"
    assert result.recipe["optimizer"]["lr"] == 1e-3
    assert result.recipe["optimizer"]["weight_decay"] == 5e-4
    assert result.images == {"train": 250, "validation": 50, "test": 100}
    assert result.curve[1].train_loss < result.curve[0].train_loss
    assert "test accuracy" in capsys.readouterr().out
    assert train.main(arguments) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert train.main([*arguments, "--resume"]) == 0


def test_progress_shows_accuracy_and_speed(tmp_path, capsys):
    options = ["--data.name", "random", "--data.image_size", "8", "--data.train_images", "64"]
    assert train.main([*options, "--accelerator", "cpu", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "epoch 1/1" in shown
    assert "images/s" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "convnet5"], "unknown model 'convnet5'"),
        (["--rule", "no_such"], "no_such"),
        (["--targets", "no_such"], "unknown target setter 'no_such'; valid are"),
        (["--targets", "uniform", "--compile", "inductor"], "compile: inductor hides"),
        (["--targets", "uniform", "--act", "relu", "--rule", "stock"], "no activation quantizers"),
        (["--targets", "uniform", "--act", "staircase3"], "has no sign quantizers whose targets"),
        (["--data.name", "cifar10", "--data.root", "/nowhere"], "there is no folder /nowhere"),
        (["--weighting", "mean", "--precision", "fp16"], "does not follow the loss scale"),
        (["--schedule.name", "step"], "either milestones or every"),
        (["--checkpoint_every", "0"], "checkpoint_every must be 1 or more"),
        (["--devices", "0"], "devices 0"),
        (["--optimizer.name", "sparseadam"], "takes sparse gradients"),
        (["--compile", "no_such"], "compile: Invalid backend: 'no_such'"),
    ],
)
def test_a_mistake_is_told_in_one_line(options, message, tmp_path, capsys):
    arguments = ["--data.name", "random", *options, *QUIET, "--out", str(tmp_path / "out")]
    assert train.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("train.py: error: ")


def test_an_interrupted_run_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("training.classifier.Classifier.on_train_epoch_start", interrupt)
    handler = signal.getsignal(signal.SIGINT)
    try:
        options = ["--data.name", "random", "--data.train_images", "64", *QUIET]
        assert train.main([*options, "--out", str(tmp_path / "out")]) == 130
    finally:
        # Lightning ignores further signals.
        signal.signal(signal.SIGINT, handler)
    assert "interrupted; the same command with --resume goes on" in capsys.readouterr().err


def test_a_folder_that_cannot_be_is_told(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert train.main([*QUIET, "--out", str(tmp_path / "file" / "out")]) == 2
    assert "file/out cannot be a run's folder: Not a directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--optimizer.lrr", "1"], "no option --optimizer.lrr; did you mean --optimizer.lr?"),
        (["--lr", "1"], "no option --lr; did you mean --optimizer.lr?"),
        (["--sead=1"], "no option --sead; did you mean --seed?"),
        (["--optimizer.lr", "fast"], "optimizer.lr"),
        (["--rule", "stok"], "unknown rule 'stok'"),
        (["--rule", "stok"], "stock keeps the model's own gradients"),
    ],
)
def test_a_mistyped_option_is_told_in_one_line_with_what_was_meant(options, message, capsys):
    assert train.main(options) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert message in error
    assert error.startswith("train.py: error: ")


@pytest.mark.parametrize(
    "options",
    [
        ["--data-name", "random", "--data.mean", "[0.5, 0.25, 0.5]", "--batch-size=16"],
        ["--data.name", "random", "--data.mean", "0.5,0.25,0.5", "--batch_size", "16"],
    ],
)
def test_options_and_lists_are_spelt_either_way(options):
    schedule = ["--schedule.name", "step", "--schedule.milestones", "1,2"]
    more = ["--model-options.fc", "8", "--optimizer.options.amsgrad", "true", "--fast_dev_run"]
    recipe, run, _ = train.read_arguments([*options, *schedule, *more])
    assert recipe.data.mean == (0.5, 0.25, 0.5)
    assert (recipe.batch_size, recipe.schedule.milestones) == (16, (1, 2))
    assert (recipe.model_options, recipe.optimizer.options) == ({"fc": 8}, {"amsgrad": True})
    assert run.fast_dev_run


def test_a_run_ends_with_the_commands_that_go_on(tmp_path, capsys):
    options = ["--data.name", "random", "--data.image_size", "8", "--data.train_images", "64"]
    assert train.main([*options, *QUIET, "--out", str(tmp_path / "out")]) == 0
    *_, export, board, resume = capsys.readouterr().out.splitlines()
    assert export == f"  brevitas-ftprop export finn --run {tmp_path / 'out'} --out fpga"
    assert board == f"  tensorboard --logdir {tmp_path / 'out'}"
    assert resume.endswith(f"--resume --out {tmp_path / 'out'} --epochs 2")


def interrupted(command: list[str], until, cwd: Path) -> tuple[int, list[str]]:
    """Press Ctrl-C in a terminal where ``command`` runs, and what it then leaves on stderr."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not until():
        time.sleep(0.01)
    # The terminal's: to every process in it.
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    libraries = ("CUDA runtime", "fast_hadamard", "warnings.warn")
    lines = [line for line in told.splitlines() if not any(word in line for word in libraries)]
    return process.returncode, lines


def test_ctrl_c_during_the_imports_is_one_line(tmp_path):
    started = time.monotonic()
    script = str(ROOT / "examples" / "train.py")
    code, lines = interrupted([script], lambda: time.monotonic() > started + 1, tmp_path)
    assert code == 130
    assert lines == ["train.py: interrupted"]


@pytest.mark.slow
def test_ctrl_c_while_compared_runs_train_is_one_line_and_ends_them(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    data = "data: {name: random, image_size: 8, train_images: 64}"
    recipe.write_text(f"model_options: {{channels: [4, 4], fc: 8}}\nepochs: 9999\n{data}\n")
    out = tmp_path / "out"
    command = [str(ROOT / "examples" / "compare.py"), str(recipe), "--acts", "sign", "--jobs", "2"]

    def both_train() -> bool:
        return len(list(out.glob("runs/*/checkpoints/*.ckpt"))) >= 2

    code, lines = interrupted([*command, "--out", str(out)], both_train, tmp_path)
    assert code == 130
    assert lines == ["compare.py: interrupted; the same command goes on"]
    # Their locks are free: nobody is training there any more.
    for lock in out.glob("runs/*/.lock"):
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.slow
def test_the_script_starts_its_own_processes(tmp_path):
    out = tmp_path / "out"
    options = ["--data.name", "digits", "--data.train_images", "64", "--batch_size", "32"]
    together = ["--devices", "2", "--strategy", "ddp", "--threads", "1"]
    subprocess.run(
        [sys.executable, "examples/train.py", *options, *together, *QUIET, "--out", str(out)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert json.loads((out / "result.json").read_text())["devices"] == 2


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def on_nodes(count: int, options: list[str]) -> list[subprocess.Popen]:
    """The command as torchrun starts it on each of some nodes, all of them this machine."""
    port = free_port()
    rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}"]
    launch = ["-m", "torch.distributed.run", "--nnodes", str(count), *rendezvous]
    launch += ["--nproc-per-node", "1", "--rdzv-id", "nodes"]
    script = ["examples/train.py", "--num_nodes", str(count), "--strategy", "ddp", *QUIET[:-2]]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    return [
        subprocess.Popen(
            [sys.executable, *launch, "--node-rank", str(node), *script, *options],
            cwd=ROOT,
            env=environment,
        )
        for node in range(count)
    ]


@pytest.mark.slow
def test_nodes_train_the_bits_that_devices_of_one_do_and_one_goes_on_from_two(tmp_path):
    options = ["--data.name", "digits", "--data.train_images", "64", "--batch_size", "32"]
    options += ["--threads", "1", "--epochs", "2", "--out"]
    ended = [node.wait(300) for node in on_nodes(2, [*options, str(tmp_path / "nodes")])]
    assert ended == [0, 0]
    together = ["--devices", "2", "--strategy", "ddp"]
    subprocess.run(
        [sys.executable, "examples/train.py", *together, *QUIET, *options, str(tmp_path / "one")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    nodes, one = (Result.read(tmp_path / name / "result.json") for name in ("nodes", "one"))
    assert nodes.devices == one.devices == 2
    assert nodes.final_weights == one.final_weights
    assert len(list((tmp_path / "nodes" / "checkpoints").glob("*.ckpt"))) == 1
    longer = ["--resume", "--epochs", "3", "--threads", "1", *QUIET, "--out"]
    assert train.main([*longer, str(tmp_path / "nodes")]) == 0
    assert Result.read(tmp_path / "nodes" / "result.json").devices == 1


def test_nodes_without_what_starts_them_are_refused_in_one_sentence(tmp_path, capsys):
    assert train.main(["--num_nodes", "2", *QUIET, "--out", str(tmp_path / "out")]) == 2
    assert "torchrun --nnodes 2" in capsys.readouterr().err
