"""All that a training's folder tells need not be told again, and nothing else is taken from it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.commands import FLAGS, REPO, told

pytest.importorskip("typer.testing", reason="needs the extra 'cli'")

pytestmark = pytest.mark.heavy

RULE = """
import torch
from brevitas_ftprop.rules import Rule, register


@register
class Own(Rule):
    name = "own"

    def slope(self, m):
        return torch.exp(-m.abs())
"""
RECIPE = {
    "model": "cli_nets:tiny",
    "model_options": {"width": 6},
    "act": "sign",
    "weight_bits": None,
    "rule": "own",
    "weight_rule": None,
    "weighting": "grad",
    "staircase": "single",
    "saved": "exact",
    "imports": {"run_rules": "0123456789abcdef"},
    "epochs": 10,
    "seed": 3,
    "data": {
        "name": "image_folder",
        "channels": 3,
        "image_size": 8,
        "resized": False,
        "resize": 256,
        "mean": [0.5, 0.25, 0.125],
        "std": [0.25, 0.5, 0.5],
    },
}
SCRIPT = Path(sys.executable).with_name("brevitas-ftprop")
CLASSES = 10


@pytest.fixture
def trained(folder, run):
    """A run of the user's own network with a rule of their own, as the trainer leaves it."""
    from brevitas_ftprop.rules import RULES
    from brevitas_ftprop.runs.factory import find_factory

    out = folder / "trained"
    out.mkdir(exist_ok=True)
    (folder / "run_rules.py").write_text(RULE)
    torch.manual_seed(5)
    model = find_factory("cli_nets:tiny")(act="sign", width=6)
    torch.save(model.state_dict(), out / "weights.pt")
    (out / "result.json").write_text(json.dumps({"recipe": RECIPE, "classes": CLASSES}))
    yield model.eval()
    sys.modules.pop("run_rules", None)
    RULES.pop("own", None)


@pytest.fixture
def photos(folder):
    """Two images of each class in folders of their names, and their bytes."""
    pixels = np.random.default_rng(0).integers(0, 256, (2 * CLASSES, 8, 8, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        file = folder / "photos" / f"class{number // 2}" / f"{number % 2}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return pixels


def normalized(pixels: np.ndarray) -> torch.Tensor:
    mean, std = (np.array(RECIPE["data"][name]) for name in ("mean", "std"))
    seen = (pixels / 255 - mean) / std
    return torch.from_numpy(seen.astype(np.float32)).permute(0, 3, 1, 2)


def test_the_network_is_the_trained_one_with_its_own_rule(trained, run):
    from brevitas_ftprop import load_run

    loaded = load_run("trained")
    images = torch.randn(4, 3, 8, 8)
    assert torch.equal(loaded.model(images), trained(images))
    assert loaded.model.features.act0.act_quant.rule == "own"
    assert loaded.example.shape == loaded.shape == (1, 3, 8, 8)
    assert loaded.pixels == {
        "images": "uint8",
        "mean": (0.5, 0.25, 0.125),
        "std": (0.25, 0.5, 0.5),
    }


def test_a_run_is_checked_and_exported_without_another_word(trained, run):
    checked = run("check", "--run", "trained", "--no-dynamo", "--json")
    assert checked.exit_code == 0
    assert json.loads(checked.stdout)["untrained"] is False
    written = run("export", "qonnx", "--run", "trained", "--out", "run.onnx", *FLAGS, "--json")
    assert written.exit_code == 0, written.stderr
    assert json.loads(written.stdout)["untrained"] is False
    named = ("cli_nets:tiny", "--arg", "act=sign", "--arg", "width=6", "--checkpoint", "trained")
    assert run("verify", "run.onnx", *named, "--images", "2").exit_code == 0
    assert run("verify", "run.onnx", "--run", "trained", "--images", "2").exit_code == 0


def test_pixels_are_what_an_accelerator_of_a_run_takes_unless_told(trained, photos, run):
    from brevitas_ftprop.cli.subject import Subject

    loaded = Subject(model=None, run=Path("trained"), batch=Path("photos")).load()
    pixels = torch.from_numpy(photos).permute(0, 3, 1, 2)
    assert torch.equal(loaded.entering(None), pixels)
    own = {"pixels": None, "mean": (0.5, 0.25, 0.125), "std": (0.25, 0.5, 0.5)}
    assert loaded.accelerator(None) == {"images": "uint8", **own}
    torch.testing.assert_close(loaded.entering("float"), normalized(photos))
    torch.testing.assert_close(loaded.example, normalized(photos)[:1])
    assert loaded.accelerator("float") == {"images": "float"}


def test_the_files_accuracy_stands_beside_its_integers(trained, photos, run, folder):
    written = run("export", "qcdq", "--run", "trained", "--out", "labelled.onnx", *FLAGS)
    assert written.exit_code == 0, written.stderr
    right = trained(normalized(photos)).argmax(-1)
    of_folders = torch.arange(CLASSES).repeat_interleave(2)
    np.save("right.npy", np.where(np.arange(20) < 15, right, (right + 1) % CLASSES))
    arguments = ("verify", "labelled.onnx", "--run", "trained", "--batch", "photos")
    found = json.loads(run(*arguments, "--labels", "right.npy", "--json").stdout)
    assert found["accuracy"] == {"images": 20, "file": 15, "model": 15}
    assert found["outputs"][0]["images"] == 20
    shown = run(*arguments, "--labels", "photos").stdout
    share = (right == of_folders).double().mean()
    assert f"accuracy on 20 images: the file's {share:.2%}, PyTorch's {share:.2%}" in shown
    for labels, words in (
        ("three.npy", "not a class, from 0, for each of 20 images"),
        ("nowhere", "there are no labels nowhere"),
        ("photos/class0", "do not lie in a subfolder of photos/class0 for each class"),
    ):
        result = run(*arguments, "--labels", labels)
        assert words in told(result)
        assert result.exit_code == 2
    assert "--labels are those of --batch" in told(
        run("verify", "labelled.onnx", "--run", "trained", "--labels", "photos")
    )


def test_image_files_are_resized_only_when_asked(trained, photos, run, folder):
    (folder / "wide").mkdir()
    Image.fromarray(photos[0].repeat(2, axis=1)).save(folder / "wide" / "one.png")
    arguments = ("check", "--run", "trained", "--batch", "wide", "--no-dynamo")
    refused = run(*arguments)
    assert refused.exit_code == 2
    assert "one.png is 16×8, but the model sees 8×8: pass --resize" in told(refused)
    assert run(*arguments, "--resize").exit_code == 0
    assert "--resize is of image files" in told(run("check", "--run", "trained", "--resize"))


def test_what_a_batch_leaves_out_is_told(trained, photos, run, folder):
    notes = folder / "photos" / "class0" / "notes.txt"
    notes.touch()
    result = run("check", "--run", "trained", "--batch", "photos", "--no-dynamo")
    assert result.stdout == "finn: no findings\n"
    assert "left out: 1 file that is no image: .txt\n" in result.stderr
    notes.unlink()


def test_image_files_give_the_shape_and_their_normalization_has_to_be_told(photos, run):
    export = ("export", "qcdq", "cli_nets:tiny", "--untrained", "--batch", "photos", *FLAGS)
    assert "has to be told: --pixels x/255, or --mean" in told(run(*export, "--out", "untold.onnx"))
    check = ("check", "cli_nets:tiny", "--batch", "photos", "--no-dynamo")
    assert run(*check).exit_code == 0
    numbers = ("--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25")
    assert run(*export, "--out", "told.onnx", *numbers).exit_code == 0
    no_files = ("export", "qcdq", "cli_nets:tiny", "--untrained", "--input-shape", "1,3,8,8")
    assert "--mean and --std are of image files here" in told(
        run(*no_files, *numbers, "--out", "none.onnx", *FLAGS)
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cli_nets:tiny", "--run", "trained"), "the model cli_nets:tiny and --run exclude"),
        (("--run", "trained", "--arg", "act=sign"), "--arg and --run exclude each other"),
        (("--run", "trained", "--mean", "0.5,0.5,0.5"), "--mean and --run exclude each other"),
        (("--run", "nowhere"), "there is no folder nowhere"),
        (("--run", "begun"), "begun holds no result.json: its training has not ended"),
        (("--run", "empty"), "train.py has written none there"),
        (("--run", "torn"), "torn/result.json is not the result of a run: it is no JSON"),
        ((), "name a MODEL, or the folder of a training by --run"),
        (("cli_nets:tiny",), "pass the shape of the model's input as --input-shape"),
        (("convnet5", "--input-shape", "1,3,8,8"), "unknown model 'convnet5'; valid are alexnet"),
        (("empty", "--input-shape", "1,3,8,8"), "empty is a folder: pass a training's as --run"),
        (("convnet4", "--input-shape", "1,3,8,9"), "takes square images"),
        (("cli_nets:tiny", "empty", "--input-shape", "1,3,8,8"), "a folder without weights.pt"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_contradicts_a_run_or_is_none_is_told(trained, run, folder, arguments, words):
    for name in ("empty", "begun", "torn"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "begun" / "recipe.yaml").touch()
    (folder / "torn" / "result.json").write_text('{"recipe"')
    result = run("check", *arguments)
    assert words in told(result)
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("recipe.seed", None, "it has no recipe.seed"),
        ("recipe.act", None, "it has no recipe.act"),
        ("recipe.data.image_size", None, "it has no recipe.data.image_size"),
        ("recipe", "[1]", "recipe is [1], not an object"),
        ("recipe.data", '"x"', 'recipe.data is "x", not an object'),
        ("recipe.data.mean", "null", "recipe.data.mean is null, not a list"),
        ("recipe.data.mean", "[0.5]", "recipe.data.mean is [0.5], not 3 numbers"),
        ("recipe.data.std", "[1, 0, 1]", "recipe.data.std is [1, 0, 1], not 3 positive numbers"),
        ("recipe.data.image_size", "[8, 8, 8]", "not a positive number, or height and width"),
        ("recipe.seed", "1.5", "recipe.seed is 1.5, not a whole number"),
        ("delays", "null", "delays is null, not an object"),
        ("delays", '{"nowhere": 3}', 'delays is {"nowhere": 3}, not of layers of cli_nets:tiny'),
        ("classes", '"ten"', 'classes is "ten", not a whole number or null'),
    ],
)
def test_a_damaged_result_is_told_by_its_file_and_field(trained, folder, field, value, words):
    from brevitas_ftprop import load_run

    file = folder / "trained" / "result.json"
    result = json.loads(file.read_text())
    *path, last = field.split(".")
    section = result
    for part in path:
        section = section[part]
    if value is None:
        del section[last]
    else:
        section[last] = json.loads(value)
    file.write_text(json.dumps(result))
    with pytest.raises(ValueError, match=r"^\S*trained/result\.json is damaged: ") as told:
        load_run(folder / "trained")
    assert words in str(told.value)


def test_the_module_of_a_runs_network_is_the_one_that_it_trained(trained, run, folder):
    module, file = folder / "cli_nets.py", folder / "trained" / "result.json"
    source = hashlib.sha256(module.read_bytes()).hexdigest()[:16]
    result = json.loads(file.read_text())
    file.write_text(json.dumps(result | {"source": source}))
    check = ("check", "--run", "trained", "--no-dynamo")
    assert run(*check).exit_code == 0
    before = module.read_text()
    try:
        module.write_text(f"{before}\n")
        refused = run(*check)
    finally:
        module.write_text(before)
    assert refused.exit_code == 2
    words = told(refused)
    assert "cli_nets:tiny is not the network that the run trained: the hash of" in words
    assert f"{module} is" in words
    assert f"and was {source}; bring that file back, or name the network itself" in words
    assert words.endswith("and trained as its checkpoint")


def test_a_run_that_is_being_trained_longer_is_told_from_one_that_has_ended(trained, run, folder):
    from brevitas_ftprop import load_run

    recipe = folder / "trained" / "recipe.yaml"
    recipe.write_text("model: cli_nets:tiny\nepochs: 400\ndata:\n  name: image_folder\n")
    check = ("check", "--run", "trained", "--no-dynamo")
    try:
        refused = run(*check)
        loaded = load_run("trained", checkpoint="trained/weights.pt")
        recipe.write_text("epochs: 10\n")
        assert run(*check).exit_code == 0
    finally:
        recipe.unlink()
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(loaded.model(images), trained(images))
    assert refused.exit_code == 2
    assert told(refused) == (
        "error: trained is being trained longer, from 10 to 400 epochs, and that has not ended: "
        "go on with --resume, or export and verify the weights of before with --checkpoint "
        "trained/weights.pt"
    )


@pytest.mark.parametrize(
    ("model", "shape", "options", "logits"),
    [
        ("convnet4", (1, 3, 8, 8), ("channels=(4,4)", "fc=8", "num_classes=3"), 3),
        ("resnet18", (1, 3, 32, 32), ("form=hardware", "base=4"), 1000),
        ("torchvision:squeezenet1_1", (1, 3, 32, 32), ("act=int4", "num_classes=4"), 4),
        ("torchvision/squeezenet1_1", (1, 3, 32, 32), (), 1000),
        ("brevitas:tfc_1w1a", (1, 1, 28, 28), (), 10),
        ("finn:cli_nets:floating", (1, 4), ("features=5", "act=int2"), 2),
    ],
)
def test_the_trainers_names_of_networks_are_known(run, model, shape, options, logits):
    from brevitas_ftprop.cli.subject import Subject

    loaded = Subject(model=model, run=None, arguments=options, shape=shape).load()
    assert loaded.model(loaded.example).shape == (1, logits)


def test_lightnings_checkpoints_are_taken_whatever_else_they_hold(trained, run, folder):
    from brevitas_ftprop.cli.loading import load_model

    state = {f"network.{key}": value for key, value in trained.state_dict().items()}
    more = {"loss.weight": torch.ones(2), "accuracy.total": torch.ones(1)}
    torch.save({"state_dict": {**more, **state}, "epoch": 3}, folder / "lightning.ckpt")
    arguments = ("act=sign", "width=6")
    model = load_model("cli_nets:tiny", arguments=arguments, checkpoint=Path("lightning.ckpt"))
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(model(images), trained(images))


def script(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
    )


def test_the_installed_script_takes_a_run(trained, photos, folder):
    checked = script(folder, "check", "--run", "trained", "--batch", "photos", "--no-dynamo")
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout == "finn: no findings\n"


@pytest.mark.slow
def test_the_report_of_an_accelerator_says_what_weights_it_is_of(trained, photos, folder):
    asked = ("export", "finn", "--result", "class", "--batch", "photos")
    made = script(folder, *asked, "--run", "trained", "--out", "fpga")
    assert made.returncode == 0, made.stderr
    report = json.loads((folder / "fpga" / "report.json").read_text())
    assert (report["ok"], report["untrained"]) == (True, False)
    assert report["steps"][0]["images"] == 2 * CLASSES
    pixels = ("--images", "uint8", "--pixels", "x/255")
    made = script(folder, *asked, "cli_nets:tiny", "--untrained", *pixels, "--out", "random")
    assert made.returncode == 0, made.stderr
    assert json.loads((folder / "random" / "report.json").read_text())["untrained"] is True
    assert "**The weights are untrained.**" in (folder / "random" / "report.md").read_text()
