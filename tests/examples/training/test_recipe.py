"""Recipes: read, written, compared, and refused where they cannot work."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

pytest.importorskip("jsonargparse", reason="needs the extra 'examples'")

from training import Optimizer, Recipe, differences, load_recipe

RECIPES = sorted((Path(__file__).resolve().parents[3] / "examples" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_short_and_survives_json(path):
    recipe = load_recipe(path)
    assert len(path.read_text().splitlines()) <= 15
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_each_row_of_the_papers_table_has_a_recipe():
    rows = {path.stem for path in RECIPES}
    for network, staircase in (
        ("convnet4", "staircase3"),
        ("convnet8", "staircase3"),
        ("alexnet", "staircase3"),
        ("resnet18", "staircase5"),
    ):
        for act in ("sign", staircase):
            assert {f"{network}_{act}_sste", f"{network}_{act}_ftp_sh"} <= rows
        assert {f"{network}_relu", f"{network}_saturated_relu"} <= rows


def test_overrides_reach_into_sections_and_keep_the_rest():
    recipe = load_recipe(RECIPES[0], seed=3, optimizer__lr=0.5)
    before = load_recipe(RECIPES[0])
    assert differences(before.to_dict(), recipe.to_dict()) == ["optimizer.lr", "seed"]
    assert recipe.optimizer == dataclasses.replace(before.optimizer, lr=0.5)


def test_an_alias_is_the_rule_that_it_names():
    assert Recipe(rule="SSTE") == Recipe(rule="saturated_ste")


def test_targets_are_written_as_their_setter_writes_them_and_the_default_may_be_compiled():
    recipe = Recipe(targets="local_search( candidates = 8.0, iterations=1)")
    assert recipe.targets == "local_search(candidates=8)"
    assert Recipe(compile="inductor").targets == "gradient_sign"


def test_where_the_images_lie_is_no_difference():
    one = Recipe().to_dict()
    other = Recipe().with_overrides(data__root="/elsewhere", data__download=True).to_dict()
    assert differences(one, other) == []


def test_a_field_that_a_recipe_is_too_old_to_have_is_its_default():
    old = Recipe().to_dict()
    del old["channels_last"], old["targets"], old["optimizer"]["norm_weight_decay"]
    assert differences(old, Recipe().to_dict()) == []
    assert differences(old, Recipe(channels_last=True).to_dict()) == ["channels_last"]
    decayed = Recipe(optimizer=Optimizer(norm_weight_decay=0.1)).to_dict()
    assert differences(decayed, old) == ["optimizer.norm_weight_decay"]


def test_a_recipe_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().seed = 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimiser: {lr: 1.0}", "optimiser"),
        ("optimizer: {lrr: 1.0}", "lrr"),
        ("optimizer: {lr: fast}", "lr"),
        ("precision: '8'", "precision"),
    ],
)
def test_a_field_that_is_unknown_or_of_another_type_is_named(tmp_path, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_recipe(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weighting": "mean", "precision": "fp16"}, "weighting: mean does not follow"),
        ({"rule": "no_such"}, "no_such"),
        ({"targets": "no_such"}, "unknown target setter 'no_such'; valid are .*gradient_sign"),
        ({"targets": "uniform(width=1)"}, "uniform has no parameter 'width'; it takes none"),
        ({"targets": "uniform", "compile": "inductor"}, "uniform looks at what the network"),
        ({"ema": 1.0}, "between 0 and 1"),
        ({"epochs": 0}, "epochs must be 1 or more"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"gradient_clip": 0.0}, "gradient_clip must be positive"),
        ({"rule": "ede(progress=0.5)"}, "progress of ede is set by training"),
        ({"rule": "stock", "staircase": "sum"}, "rule: stock has Brevitas' gradients"),
        ({"optimizer__lr": float("nan")}, r"optimizer\.lr must be 0 or more"),
        ({"optimizer__name": "sparseadam"}, "sparseadam takes sparse gradients"),
        ({"optimizer__norm_weight_decay": -1.0}, r"optimizer\.norm_weight_decay must be 0"),
        ({"schedule__milestones": [3]}, "are of schedule step: schedule.name is constant"),
        ({"schedule__warmup_epochs": -1.0}, r"schedule\.warmup_epochs must be 0 or more"),
        ({"schedule__warmup_epochs": 1.5}, r"schedule\.warmup_epochs 1\.5 is more than epochs 1"),
        ({"data__test_images": 0}, r"data\.test_images must be 1 or more"),
        ({"data__crop_padding": -1}, r"data\.crop_padding must be 0 or more"),
        ({"data__std": [1.0, 0.0, 1.0]}, r"data\.std must be positive"),
        (
            {"data__mean": [125.0, 120.0, 110.0]},
            r"data\.mean is of pixels x/255, .* \(125.0, 120.0, 110.0\): divide what is of .* 255",
        ),
        ({"data__mean": [0.5, -0.1, 0.5]}, r"data\.mean is of pixels x/255"),
        ({"data__std": [60.0, 60.0, 60.0]}, r"data\.std is of pixels x/255"),
        ({"data__mean": [float("nan")] * 3}, r"data\.mean is of pixels x/255"),
        ({"data__name": "imagenet", "data__image_size": 300}, r"data\.resize 256 is less than"),
        ({"loss__label_smoothing": 2.0}, r"loss\.label_smoothing must lie in \[0, 1\]"),
        ({"cudnn_benchmark": True, "deterministic": True}, "cudnn_benchmark takes the convolution"),
        ({"compile": "reduce-overhead", "accumulate": 2}, "accumulate keeps those of earlier"),
        ({"compile": "reduce-overhead", "rule": "ede"}, "rule ede changes from epoch to epoch"),
        (
            {
                "precision": "fp16",
                "gradient_clip": 1.0,
                "optimizer__options": {"fused": True},
            },
            "fused optimizer takes off by itself",
        ),
        ({"batch_size": 10, "accumulate": 3}, "equal parts"),
        ({"schedule__name": "step"}, "either milestones or every"),
        ({"loss__name": "squared_hinge", "loss__label_smoothing": 0.1}, "squared_hinge has none"),
    ],
)
def test_values_that_cannot_work_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Recipe().with_overrides(**values)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        load_recipe(tmp_path / "nowhere.yaml")


def test_options_of_an_optimizer_are_its_own():
    assert Recipe(optimizer=Optimizer(options={"momentum": 0.9})).to_dict()["optimizer"][
        "options"
    ] == {"momentum": 0.9}
