"""Algorithm 1 itself: what it reaches, its log, and the heuristics that set targets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from brevitas_ftprop.algorithm1.convex import logistic_loss, separate_all, unit_pull
from brevitas_ftprop.algorithm1.cuts import carve, enclose
from brevitas_ftprop.algorithm1.heuristics import copy, reachable, residual
from brevitas_ftprop.algorithm1.proposal import LayerProblem, Situation
from brevitas_ftprop.algorithm1.recursion import Recursion, wrong_rows
from brevitas_ftprop.algorithm1.threshold_network import ThresholdNetwork, sign
from brevitas_ftprop.separation import separating_weights

pytestmark = pytest.mark.heavy

CORNERS = np.array(list(itertools.product([0.0, 1.0], repeat=3)))


def recursion(inputs, targets, hidden, *, budget=60, seed=0):
    network = ThresholdNetwork.zeros([inputs.shape[1], *hidden, targets.shape[1]])
    run = Recursion(
        network, inputs, targets, budget=budget, candidates=16, rng=np.random.RandomState(seed)
    )
    run.start()
    return run


def noise(rows, features, outputs, seed=0):
    """Rows whose targets follow from nothing."""
    rng = np.random.RandomState(seed)
    inputs = rng.normal(size=(rows, features)).astype(np.float32).astype(np.float64)
    labels = rng.randint(outputs, size=rows)
    return inputs, np.where(labels[:, None] == np.arange(outputs), 1.0, -1.0)


def situation(inputs, targets, units=6, seed=0):
    """A layer that misses its targets on the random outputs of one below."""
    rng = np.random.RandomState(seed)
    below = sign(rng.normal(size=(len(inputs), units)))
    outgoing = rng.normal(size=(targets.shape[1], units))
    problem = LayerProblem(
        range(targets.shape[1]), targets, rng.uniform(0.5, 2, size=targets.shape)
    )
    return Situation(problem, targets * (below @ outgoing.T), outgoing, below, inputs)


@pytest.mark.parametrize("truth", range(0, 256, 5))
def test_a_perceptron_is_feasible_where_some_integer_weights_separate_the_corners(truth):
    # Every threshold function of three bits has weights of at most 2 and a half-integer bias.
    targets = np.array([1.0 if truth >> bit & 1 else -1.0 for bit in range(8)])
    weights = np.array(list(itertools.product(range(-2, 3), repeat=3)))
    biases = np.arange(-6.5, 7)
    outputs = np.sign((CORNERS @ weights.T)[:, :, None] + biases)
    separable = bool((outputs == targets[:, None, None]).all(axis=0).any())
    assert (separating_weights(CORNERS, targets) is not None) == separable
    run = recursion(CORNERS, targets[:, None], ())
    assert run.run() == separable
    assert run.inseparable_outputs() == ([] if separable else [0])
    assert (separate_all(CORNERS, targets[:, None]) is not None) == separable


def test_margins_of_separating_weights_are_at_least_one():
    inputs, targets = noise(12, 20, 2)
    weights, bias = separating_weights(inputs, targets[:, 0])
    assert (targets[:, 0] * (inputs @ weights + bias)).min() >= 1 - 1e-6


@pytest.mark.parametrize("hidden", [(10,), (12, 8), (8, 8, 6)], ids=str)
@pytest.mark.parametrize("outputs", [2, 4])
def test_the_log_adds_up(hidden, outputs):
    inputs, targets = noise(80, 3, outputs)
    run = recursion(inputs, targets if outputs > 2 else targets[:, 1:], hidden, budget=60)
    assert not run.run()
    log = run.decisions
    assert [decision.budget_left for decision in log] == list(range(59, -1, -1))
    assert {decision.heuristic for decision in log} >= {"residual", "reachable", "enclose"}
    assert {decision.layer for decision in log} == set(range(1, len(hidden) + 1))
    for decision in log:
        assert 0 <= decision.reached <= len(decision.units)
        fell = decision.loss_after <= decision.loss_before * (1 + 1e-9)
        assert decision.kept == (fell or decision.wrong == 0)
        assert max(decision.units) < hidden[decision.layer - 1]
    top = [decision for decision in log if decision.layer == len(hidden)]
    for earlier, later in itertools.pairwise(top):
        assert later.loss_before == (earlier.loss_after if earlier.kept else earlier.loss_before)
    assert run.wrong.sum() <= min(decision.wrong for decision in top)
    assert np.array_equal(wrong_rows(run.best.scores(inputs), run.targets), run.wrong)


def test_a_hidden_unit_reaches_its_target_by_what_the_layer_below_it_learns():
    inputs, targets = noise(40, 3, 2)
    run = recursion(inputs, targets[:, 1:], (20, 1), budget=200)
    assert run.run()
    handed_down = run.decisions[0]
    assert (handed_down.layer, handed_down.heuristic, handed_down.units) == (2, "copy", (0,))
    assert handed_down.reached == 1
    # The unit of layer 2 gives the classes, which layer 1 alone was changed for.
    assert {decision.layer for decision in run.decisions[1:]} == {1}
    assert np.abs(run.best.inputs_of(3, inputs) @ [1.0] @ targets[:, 1]) == len(inputs)


@pytest.mark.parametrize("rows", [2, 5, 20])
def test_carving_fits_anything_with_a_unit_less_than_rows(rows):
    inputs, targets = noise(rows, 3, 3, seed=1)
    run = recursion(inputs, targets, (rows - 1,), budget=1)
    assert run.run()
    assert [decision.heuristic for decision in run.decisions] in ([], ["carve"])


def test_carved_targets_are_slabs_that_make_the_layer_above_separable():
    parity = -np.prod(1 - 2 * CORNERS, axis=1)[:, None]
    proposal = carve(situation(CORNERS, parity), np.random.RandomState(0))
    assert len(proposal.problem.units) == 3
    for (normal, bias), target in zip(proposal.start, proposal.problem.targets.T, strict=True):
        assert np.array_equal(sign(CORNERS @ normal + bias), target)
    assert separating_weights(proposal.problem.targets, parity[:, 0]) is not None
    assert carve(situation(CORNERS, parity, units=2), np.random.RandomState(0)) is None
    conflict = np.concatenate([CORNERS, CORNERS[:1]]), np.concatenate([parity, -parity[:1]])
    assert carve(situation(*conflict), np.random.RandomState(0)) is None


@pytest.mark.parametrize("seed", range(8))
def test_rows_that_are_enclosed_want_the_same_of_a_unit_above_and_no_others_are(seed):
    inputs, targets = noise(30, 3, 2, seed)
    given = situation(inputs, targets[:, 1:], seed=seed)
    proposal = enclose(given, np.random.RandomState(seed))
    first, second = proposal.problem.targets.T
    inside = first != second
    assert inside.any()
    assert len(set(targets[inside, 1])) == 1
    for (normal, bias), target in zip(proposal.start, (first, second), strict=True):
        assert np.array_equal(sign(inputs @ normal + bias), target)
    # A layer above that is right but on rows inside is separable with the two units more.
    wanted = np.where(inside, -1.0, 1.0)
    assert separating_weights(proposal.problem.targets, wanted) is not None


def test_nothing_is_enclosed_by_one_unit_or_in_rows_that_conflict():
    inputs, targets = noise(6, 3, 2)
    rng = np.random.RandomState(0)
    assert enclose(situation(inputs, targets[:, 1:], units=1), rng) is None
    same = np.ones((2, 3)), np.array([[1.0], [-1.0]])
    assert enclose(situation(*same), rng) is None


def test_a_reachable_target_is_what_its_plane_gives():
    inputs, targets = noise(30, 3, 3)
    proposal = reachable(situation(inputs, targets), np.random.RandomState(0), candidates=20)
    ((normal, bias),) = proposal.start
    assert np.array_equal(sign(inputs @ normal + bias), proposal.problem.targets[:, 0])


def test_a_residual_target_is_the_sign_and_weight_of_the_gradient():
    inputs, targets = noise(30, 3, 2)
    given = situation(inputs, targets[:, 1:])
    proposal = residual(given, np.random.RandomState(0))
    # Finite differences of the loss above in what a unit of outgoing weight 1 gives.
    step, problem = 1e-6, given.problem
    higher, lower = (
        problem.weights * logistic_loss(given.margins + side * step * problem.targets)
        for side in (1, -1)
    )
    gradient = (higher - lower) / (2 * step)
    assert np.array_equal(proposal.problem.targets, -np.sign(gradient))
    expected = np.abs(gradient) / np.abs(gradient).mean()
    np.testing.assert_allclose(proposal.problem.weights, expected, rtol=1e-6)


def test_a_little_used_unit_is_one_whose_absence_costs_little():
    inputs, targets = noise(30, 3, 3)
    given = situation(inputs, targets)
    costs = []
    for unit in range(6):
        without = given.below.copy()
        without[:, unit] = without[:, unit].mean()
        losses = logistic_loss(targets * (without @ given.outgoing.T))
        costs.append((given.problem.weights * losses).sum())
    chosen = {given.least_used(1, np.random.RandomState(seed))[0] for seed in range(40)}
    # Of three that are drawn it is the cheapest: never one of the two that cost most.
    assert chosen == set(np.argsort(costs)[:4])


def test_targets_are_handed_down_where_there_are_units_for_them():
    inputs, targets = noise(30, 3, 3)
    assert np.array_equal(copy(situation(inputs, targets)).problem.targets, targets)
    assert copy(situation(inputs, targets, units=2)) is None


def test_the_pull_is_minus_the_slope_of_the_loss():
    margins = np.linspace(-30, 30, 61)
    step = 1e-5
    slope = (logistic_loss(margins + step) - logistic_loss(margins - step)) / (2 * step)
    np.testing.assert_allclose(unit_pull(margins), -slope, atol=1e-6)


def test_sums_behind_the_first_layer_are_exact_in_float32_in_any_order():
    rng = np.random.RandomState(0)
    network = ThresholdNetwork.zeros([3, 500, 2])
    network.set_unit(2, 0, rng.normal(size=500) * 10.0 ** rng.randint(-6, 3, 500), 0.1)
    h = sign(rng.normal(size=(20, 500)))
    exact = network.pre_activations(2, h)[:, 0]
    terms = (h * network.weights[1][0]).astype(np.float32)
    for _ in range(5):
        shuffled = terms[:, rng.permutation(500)]
        total = (
            np.float32(network.biases[1][0]) + np.cumsum(shuffled, axis=1, dtype=np.float32)[:, -1]
        )
        assert np.array_equal(total, exact)
