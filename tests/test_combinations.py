"""The cover of combinations leaves out no pair of values, and no combination altogether."""

from __future__ import annotations

import itertools

import pytest

from tests.combinations import cover

pytest_plugins = ["pytester"]

AXES = (range(7), "abcde", ["u", "v", "w"], [True, False])
ALL = list(itertools.product(*AXES))
SUITE = """
    import pytest

    B, C, D = (pytest.param(each, marks=pytest.mark.slow) for each in "bcd")

    @pytest.fixture(params=[("qonnx", 1), ("qonnx", 2), ("qcdq", 1), ("qcdq", 2)])
    def file(request):
        return request.param

    @pytest.mark.cover(2)
    @pytest.mark.parametrize("two", "xy")
    def test_pairs(file, two):
        pass

    @pytest.mark.cover(1)
    @pytest.mark.parametrize("two", "xy")
    @pytest.mark.parametrize("one", "abcd")
    def test_values(one, two):
        pass

    @pytest.mark.cover(1)
    @pytest.mark.parametrize("two", "xy")
    @pytest.mark.parametrize("one", ["a", B, C, D])
    def test_beside_slow_ones(one, two):
        pass

    @pytest.mark.parametrize("one", "abcd")
    def test_without_a_mark(one):
        pass
    """
HOOK = """
    from tests.combinations import mark_slow_beyond_cover as pytest_collection_modifyitems
    """


def test_every_pair_of_values_is_in_every_run_and_most_combinations_are_not():
    fast = [ALL[index] for index in cover(ALL, 2)]
    for one, other in itertools.combinations(range(len(AXES)), 2):
        pairs = {(values[one], values[other]) for values in fast}
        assert pairs == set(itertools.product(AXES[one], AXES[other]))
    assert 7 * 5 <= len(fast) < 7 * 5 * 3 * 2 / 3


def test_every_value_is_in_every_run_where_single_ones_are_asked_for():
    fast = [ALL[index] for index in cover(ALL, 1)]
    for axis, values in enumerate(AXES):
        assert {each[axis] for each in fast} == set(values)
    assert 7 <= len(fast) <= 7 + 5 + 3 + 2


def test_the_cover_is_the_same_in_every_process():
    assert cover(ALL, 2) == cover(ALL, 2)


@pytest.mark.parametrize(
    ("name", "least", "most"), [("pairs", 4, 7), ("values", 4, 5), ("beside_slow_ones", 2, 2)]
)
def test_what_is_beyond_the_cover_of_a_marked_test_is_slow(pytester, name, least, most):
    pytester.makeconftest(HOOK)
    pytester.makeini("[pytest]\nmarkers =\n    cover(n): of the test\n    slow: of the test")
    items, _ = pytester.inline_genitems(pytester.makepyfile(SUITE))
    marked = [item for item in items if item.originalname == f"test_{name}"]
    assert len(marked) == 8
    assert least <= sum(item.get_closest_marker("slow") is None for item in marked) <= most
    others = [item for item in items if item.originalname == "test_without_a_mark"]
    assert len(others) == 4
    assert not any(item.get_closest_marker("slow") for item in others)
