"""``targets:`` of a recipe: what a run then computes, and what its result says of it."""

from __future__ import annotations

import pytest
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

pytest.importorskip("jsonargparse", reason="needs the extra 'examples'")

from lightning.pytorch.callbacks import Callback
from training import Recipe, Result

pytestmark = pytest.mark.heavy

SEARCH = "local_search(candidates=2)"


@pytest.fixture
def plain(tiny) -> Recipe:
    return tiny.with_overrides(
        model="convnet4", model_options={"channels": [4, 4], "fc": 8}, act="sign", epochs=1
    )


@pytest.fixture
def searched(plain) -> Recipe:
    return plain.with_overrides(targets=SEARCH)


def test_the_default_is_a_recipe_without_targets_bit_for_bit(plain, run):
    given, old = plain.with_overrides(targets="gradient_sign"), plain.to_dict()
    del old["targets"]
    named, unnamed = run(given, "named"), run(Recipe.from_dict(old), "unnamed")
    assert named.final_weights == unnamed.final_weights
    assert named.targets_changed == named.targets_left == {}
    assert named.step_seconds > 0
    assert named.peak_bytes is None


def test_a_search_says_what_it_changed_and_computes_something_else(plain, searched, run, tmp_path):
    default, result = run(plain, "default"), run(searched, "searched", log=True, monitor=1)
    assert result.initial_weights == default.initial_weights
    assert result.final_weights != default.final_weights
    assert len(result.targets_changed) == 3
    assert all(0 < share < 1 for share in result.targets_changed.values())
    assert result.targets_left == {}
    assert Result.read(tmp_path / "searched" / "result.json") == result
    (logged,) = (tmp_path / "searched").glob("csv/*/metrics.csv")
    (name, *_) = result.targets_changed
    assert f"target_prop/{name}/changed" in logged.read_text()


def test_quantizers_that_a_search_leaves_stand_in_the_result_with_the_reason(tiny, run):
    result = run(tiny.with_overrides(targets=SEARCH))
    assert list(result.targets_changed) == ["network.8.act_quant"]
    assert result.targets_left["network.6.act_quant"].startswith("it has more than two levels")


class Fails(Callback):
    """Ends a run in the step behind so many."""

    def __init__(self, steps: int):
        self.steps = steps

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.network = module.network
        if trainer.global_step == self.steps:
            raise ZeroDivisionError


def test_a_run_that_fails_in_a_step_leaves_nothing_of_its_search(searched, run):
    fails = Fails(1)
    with pytest.raises(ZeroDivisionError):
        run(searched, callbacks=[fails])
    assert not _get_current_dispatch_mode_stack()
    for module in fails.network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_a_searched_run_that_was_cut_off_ends_as_one_that_was_not(searched, run):
    recipe = searched.with_overrides(accumulate=2)
    whole = run(recipe, "whole")
    with pytest.raises(ZeroDivisionError):
        run(recipe, "cut", checkpoint_every=1, callbacks=[Fails(2)])
    rest = run(recipe, "cut", resume=True)
    assert rest.final_weights == whole.final_weights
    assert rest.targets_changed == whole.targets_changed


def test_a_recipe_without_sign_quantizers_is_refused_before_it_is_trained(searched, run, tmp_path):
    with pytest.raises(ValueError, match="has no sign quantizers whose targets"):
        run(searched.with_overrides(act="staircase3"))
    assert not list((tmp_path / "run").glob("checkpoints/*"))


def test_a_batch_may_be_searched_in_parts_and_under_autocast(searched, run):
    parts = run(searched.with_overrides(accumulate=4), "parts")
    assert all(share > 0 for share in parts.targets_changed.values())
    half = run(searched.with_overrides(precision="bf16"), "half")
    assert all(share > 0 for share in half.targets_changed.values())
    assert parts.targets_left == half.targets_left == {}


def test_a_step_is_as_many_batches_as_it_accumulates(plain, run):
    class Count(Callback):
        def on_fit_end(self, trainer, module):
            (cost,) = (each for each in trainer.callbacks if type(each).__name__ == "StepCost")
            self.times = cost.times

    count = Count()
    result = run(plain.with_overrides(accumulate=4), callbacks=[count])
    assert len(count.times) == 3
    assert result.step_seconds == sorted(count.times)[1]
