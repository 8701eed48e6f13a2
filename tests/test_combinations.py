"""The cover of combinations leaves out no pair of values, and no combination altogether."""

from __future__ import annotations

import itertools

from tests.combinations import combinations

AXES = (range(7), "abcde", ["u", "v", "w"], [True, False])


def test_every_combination_is_there_once():
    assert [each.values for each in combinations(*AXES)] == list(itertools.product(*AXES))


def test_every_pair_of_values_is_in_every_run_and_most_combinations_are_not():
    fast = [each.values for each in combinations(*AXES) if not each.marks]
    for one, other in itertools.combinations(range(len(AXES)), 2):
        pairs = {(values[one], values[other]) for values in fast}
        assert pairs == set(itertools.product(AXES[one], AXES[other]))
    assert 7 * 5 <= len(fast) < 7 * 5 * 3 * 2 / 3
    assert all([mark.name for mark in each.marks] in ([], ["slow"]) for each in combinations(*AXES))


def test_the_cover_is_the_same_in_every_process():
    assert combinations(*AXES) == combinations(*AXES)
