"""A comparison is refused where its runs differ in more than was declared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from comparison.fairness import (
    UnfairComparisonError,
    chosen_learning_rates,
    refuse_mixed,
    refuse_unfair,
)
from comparison.plan import TUNING_SEED, Arm, Plan
from training import Data, Recipe

RULES = ("saturated_ste", "soft_hinge")
PLANTED = {
    "optimizer.weight_decay": {"optimizer__weight_decay": 1e-3},
    "optimizer.lr": {"optimizer__lr": 0.5},
    "data.crop_padding": {"data__crop_padding": 0},
    "epochs": {"epochs": 7},
    "staircase": {"staircase": "sum"},
    "weight_bits": {"weight_bits": 2},
}


def test_runs_that_differ_in_the_declared_factors_are_compared(result):
    refuse_unfair([result(rule, s, act=a) for rule in RULES for s in (0, 1) for a in ("x", "y")])
    refuse_unfair([result(rule, targets=t) for rule in RULES for t in ("gradient_sign", "uniform")])


@pytest.mark.parametrize("field", PLANTED)
def test_another_value_in_one_arm_is_named(result, field):
    runs = [result(), result("soft_hinge", **PLANTED[field])]
    with pytest.raises(UnfairComparisonError, match=f"^{field} is .* in sign-saturated_ste"):
        refuse_unfair(runs)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("device", "another"),
        ("devices", 2),
        ("versions", {"torch": "2.14"}),
        ("images", {"train": 9, "validation": 0, "test": 10}),
        ("data_hash", "others"),
    ],
)
def test_another_environment_is_named(result, field, value):
    with pytest.raises(UnfairComparisonError, match=f"^{field} is"):
        refuse_unfair([result(), replace(result("soft_hinge"), **{field: value})])


def test_other_first_weights_are_refused(result):
    runs = [result(), replace(result("soft_hinge"), initial_weights="others")]
    with pytest.raises(UnfairComparisonError, match="started from different weights"):
        refuse_unfair(runs)


def test_a_run_that_counts_twice_is_refused(result):
    with pytest.raises(UnfairComparisonError, match="ran 2 times with seed 0"):
        refuse_unfair([result(), result()])


def test_a_run_without_a_test_is_refused(result):
    runs = [result(), replace(result("soft_hinge"), test_accuracy=None)]
    with pytest.raises(UnfairComparisonError, match="soft_hinge with seed 0 was never tested"):
        refuse_unfair(runs)


def mixed(stored, environment=None, **plan) -> None:
    recipe = Recipe(act="sign", data=Data(validation_images=1))
    plan = Plan(**({"recipe": recipe, "rules": RULES, "out": Path("out")} | plan))
    refuse_mixed(plan, environment or {}, stored)


class TestBeforeAnythingRuns:
    def stored(self, result, seed=0, **overrides):
        return result(seed=seed, data__validation_images=1, **overrides)

    def test_more_rules_and_seeds_may_be_added(self, result):
        mixed([self.stored(result)])
        mixed([self.stored(result, TUNING_SEED, optimizer__lr=0.1)], learning_rates=(0.1, 0.2))

    def test_more_setters_may_be_added_to_runs_of_before_there_were_any(self, result):
        old = self.stored(result)
        del old.recipe["targets"]
        mixed([old, self.stored(result, targets="uniform")], targets=("gradient_sign", "uniform"))

    @pytest.mark.parametrize("rates", [(), (0.1,), (0.1, 0.2, 0.3)])
    def test_other_candidates_are_refused(self, result, rates):
        stored = [
            self.stored(result),
            *(self.stored(result, TUNING_SEED, optimizer__lr=lr) for lr in (0.1, 0.2)),
        ]
        with pytest.raises(UnfairComparisonError, match="give the same --learning-rates"):
            mixed(stored, learning_rates=rates)

    @pytest.mark.parametrize("field", PLANTED)
    def test_another_recipe_is_refused(self, result, field):
        with pytest.raises(UnfairComparisonError, match=f"another {field}: give another --out"):
            mixed([self.stored(result, **PLANTED[field])])

    def test_another_environment_is_refused(self, result):
        with pytest.raises(UnfairComparisonError, match="another device"):
            mixed([self.stored(result)], {"device": "another", "devices": 1})


def test_nothing_cannot_be_compared():
    with pytest.raises(UnfairComparisonError, match="no finished runs"):
        refuse_unfair([])


def tuned(result, rule, candidates, **overrides):
    """Tuning runs of an arm: validation accuracy of each candidate."""
    return [
        result(
            rule,
            TUNING_SEED,
            validation=accuracy,
            **({"test": "never", "optimizer__lr": lr} | overrides),
        )
        for lr, accuracy in candidates.items()
    ]


class TestTuned:
    CANDIDATES = ({0.1: 0.6, 0.01: 0.5}, {0.1: 0.4, 0.01: 0.7})

    def runs(self, result):
        return [result(rule, optimizer__lr=lr) for rule, lr in zip(RULES, (0.1, 0.01), strict=True)]

    def tuning(self, result):
        pairs = zip(RULES, self.CANDIDATES, strict=True)
        return [run for rule, of_rule in pairs for run in tuned(result, rule, of_rule)]

    def test_each_arm_may_have_the_best_of_the_same_candidates(self, result):
        tuning = self.tuning(result)
        refuse_unfair(self.runs(result), tuning)
        chosen = chosen_learning_rates(tuning)
        assert chosen == {Arm("sign", RULES[0]): 0.1, Arm("sign", RULES[1]): 0.01}

    def test_the_smaller_of_equally_good_candidates_is_taken(self, result):
        equal = tuned(result, "ste", {0.1: 0.5, 0.01: 0.5})
        assert chosen_learning_rates(equal) == {Arm("sign", "ste"): 0.01}

    def test_each_setter_of_a_rule_has_its_own_rate(self, result):
        tuning = tuned(result, "ste", self.CANDIDATES[0])
        tuning += tuned(result, "ste", self.CANDIDATES[1], targets="uniform")
        plain, searched = (result("ste", optimizer__lr=lr) for lr in (0.1, 0.01))
        searched.recipe["targets"] = "uniform"
        refuse_unfair([plain, searched], tuning)
        assert chosen_learning_rates(tuning)[Arm("sign", "ste", "uniform")] == 0.01
        with pytest.raises(UnfairComparisonError, match="budgets have to be equal"):
            refuse_unfair([plain, searched], tuning[:3])

    def test_a_larger_budget_is_refused(self, result):
        tuning = [*self.tuning(result), *tuned(result, RULES[1], {0.001: 0.1})]
        with pytest.raises(UnfairComparisonError, match="budgets have to be equal"):
            refuse_unfair(self.runs(result), tuning)

    def test_a_longer_tuning_is_refused(self, result):
        tuning = self.tuning(result)[:2] + tuned(result, RULES[1], self.CANDIDATES[1], epochs=9)
        with pytest.raises(UnfairComparisonError, match=r"^epochs is"):
            refuse_unfair(self.runs(result), tuning)

    def test_a_rate_that_was_not_the_best_is_refused(self, result):
        runs = [self.runs(result)[0], result(RULES[1], optimizer__lr=0.1)]
        with pytest.raises(UnfairComparisonError, match=r"but 0\.01 was the best candidate"):
            refuse_unfair(runs, self.tuning(result))

    def test_testing_with_the_seed_of_the_tuning_is_refused(self, result):
        runs = [*self.runs(result), result(RULES[0], TUNING_SEED, optimizer__lr=0.1)]
        with pytest.raises(UnfairComparisonError, match="seed that it was tuned with"):
            refuse_unfair(runs, self.tuning(result))
