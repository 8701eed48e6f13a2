"""A plan is every rule on every activation with every seed, and nothing else."""

from __future__ import annotations

import pytest
from comparison.plan import Arm, Plan
from training import Data, Recipe, differences

RULES = ("saturated_ste", "soft_hinge")


def test_runs_differ_in_the_declared_factors_only(tmp_path):
    plan = Plan(
        recipe=Recipe(), rules=RULES, acts=("sign", "staircase3"), seeds=(0, 1), out=tmp_path
    )
    recipes = [trial.recipe.to_dict() for trial in plan.tests({})]
    assert len(recipes) == 8
    assert {n for r in recipes for n in differences(recipes[0], r)} == {"rule", "act", "seed"}
    assert len({trial.folder for trial in plan.tests({})}) == 8
    assert all(recipe["test"] == "end" for recipe in recipes)


def test_each_rule_has_each_setter_and_folders_of_the_default_keep_their_names(tmp_path):
    setters = ("gradient_sign", "uniform")
    plan = Plan(recipe=Recipe(act="sign"), rules=RULES, targets=setters, seeds=(0,), out=tmp_path)
    trials = list(plan.tests({}))
    assert [(t.recipe.rule, t.recipe.targets) for t in trials] == [
        (rule, targets) for rule in RULES for targets in setters
    ]
    assert [trial.folder.name for trial in trials[:2]] == [
        "sign-saturated_ste-lr0.001-seed0",
        "sign-saturated_ste-uniform-lr0.001-seed0",
    ]
    assert [Arm.of(trial.recipe.to_dict()) for trial in trials] == plan.arms


def test_a_recipe_of_before_there_were_setters_has_the_default():
    old = Recipe(act="sign").to_dict()
    del old["targets"]
    assert Arm.of(old) == Arm("sign", "soft_hinge", "gradient_sign")


def test_tuning_never_tests_and_every_arm_has_every_candidate(tmp_path):
    recipe = Recipe(data=Data(validation_images=10))
    plan = Plan(recipe=recipe, rules=RULES, learning_rates=(0.1, 0.01), out=tmp_path)
    tuning = list(plan.tuning())
    assert {trial.recipe.test for trial in tuning} == {"never"}
    assert {(t.recipe.rule, t.recipe.optimizer.lr) for t in tuning} == {
        (rule, lr) for rule in RULES for lr in (0.1, 0.01)
    }
    assert {t.recipe.seed for t in tuning}.isdisjoint(t.recipe.seed for t in plan.tests({}))


def test_a_chosen_learning_rate_reaches_the_runs_of_its_arm_only(tmp_path):
    plan = Plan(recipe=Recipe(), rules=RULES, seeds=(0,), out=tmp_path)
    rates = {
        t.recipe.rule: t.recipe.optimizer.lr for t in plan.tests({Arm(None, "soft_hinge"): 0.5})
    }
    assert rates == {"saturated_ste": Recipe().optimizer.lr, "soft_hinge": 0.5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rules": ("ste", "ste")}, "rules holds one twice"),
        ({"rules": ()}, "at least one rule"),
        ({"targets": ("uniform", "uniform")}, "targets holds one twice"),
        ({"targets": ("uniform",), "recipe": Recipe(compile="inductor")}, "inductor hides"),
        ({"seeds": ()}, "one seed"),
        ({"seeds": (0, 2, 0)}, "seeds holds one twice: 0, 2, 0"),
        ({"learning_rates": (0.1, 0.2)}, "chosen on validation images"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        Plan(**({"recipe": Recipe(), "rules": RULES, "out": tmp_path} | options))
