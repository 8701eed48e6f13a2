"""No errors means a verified partition, and each error is true, on generated networks."""

from __future__ import annotations

import random
from typing import Any

import pytest

from brevitas_ftprop.export.deployable import check_deployable
from tests.export.deployable.architectures import build, draw, example

# For every commit: one that is accepted, and one that is not; the dynamo exporter takes longer.
QUICK = (33, 25)
SEEDS = range(60)
# About three in ten have something odd in them, some a float bias that no comparison holds.
LEAST_ACCEPTED = 2 / 3
NORMALIZED = {"images": "uint8", "mean": (0.5, 0.4, 0.3), "std": (0.25, 0.3, 0.2)}
INTEGERS: tuple[dict[str, Any], ...] = (
    NORMALIZED,
    NORMALIZED | {"pixels": "x/127.5-1"},
    {"images": "uint8", "pixels": "x/255"},
    {"images": "uint8", "pixels": "x"},
    {"images": "int8"},
    {"images": "bipolar"},
)


def drawn_options(seed: int) -> dict[str, Any]:
    """Exporter, images and result of a network; the rarer ones for about a third of the seeds."""
    rng = random.Random(f"options {seed}")
    dynamo, are_integers, is_class = (rng.random() < 1 / 3 for _ in range(3))
    other = rng.choice(("logits", "logits", "logits", "integers"))
    return {
        "dynamo": dynamo,
        **(rng.choice(INTEGERS) if are_integers else {"images": "float"}),
        "result": "class" if is_class else other,
    }


def assert_predicted(judge, seed: int) -> None:
    spec, options = draw(seed), drawn_options(seed)
    report, error = judge(build(spec), example(spec), **options)
    if report.ok:
        assert error is None, f"accepted, but failed: {error}\n{spec}\n{options}"
    else:
        assert error is not None, f"refused, but compiled: {report}\n{spec}\n{options}"


@pytest.mark.parametrize("seed", QUICK)
def test_the_check_predicts_what_the_flow_does(judge, seed):
    assert_predicted(judge, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [seed for seed in SEEDS if seed not in QUICK])
def test_the_check_predicts_what_the_flow_does_with_many_networks(judge, seed):
    assert_predicted(judge, seed)


@pytest.mark.slow
def test_most_generated_networks_are_accepted():
    accepted = 0
    for seed in SEEDS:
        spec, options = draw(seed), drawn_options(seed)
        accepted += check_deployable(build(spec), example(spec), **options).ok
    assert accepted >= LEAST_ACCEPTED * len(SEEDS)


def test_generated_networks_are_the_same_each_time():
    assert draw(3) == draw(3)
    assert draw(3) != draw(4)
