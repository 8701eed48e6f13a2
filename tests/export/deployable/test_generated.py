"""No errors means a verified partition, and each error is true, on generated networks."""

from __future__ import annotations

import pytest

from brevitas_ftprop.export.deployable import check_deployable
from tests.export.deployable.architectures import Architecture, build, draw, example

# For every commit: four that are accepted, of other layers each, and one that is not.
QUICK = (1, 5, 7, 9, 0)
SEEDS = range(60)
LEAST_ACCEPTED = 0.7


def assert_predicted(judge, spec: Architecture) -> None:
    report, error = judge(build(spec), example(spec))
    if report.ok:
        assert error is None, f"accepted, but failed: {error}\n{spec}"
    else:
        assert error is not None, f"refused, but compiled: {report}\n{spec}"


@pytest.mark.parametrize("seed", QUICK)
def test_the_check_predicts_what_the_flow_does(judge, seed):
    assert_predicted(judge, draw(seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [seed for seed in SEEDS if seed not in QUICK])
def test_the_check_predicts_what_the_flow_does_with_many_networks(judge, seed):
    assert_predicted(judge, draw(seed))


@pytest.mark.slow
def test_most_generated_networks_are_accepted():
    specs = [draw(seed) for seed in SEEDS]
    accepted = [check_deployable(build(s), example(s), dynamo=False).ok for s in specs]
    assert sum(accepted) >= LEAST_ACCEPTED * len(specs)


def test_generated_networks_are_the_same_each_time():
    assert draw(3) == draw(3)
    assert draw(3) != draw(4)
