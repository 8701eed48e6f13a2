"""The estimator as scikit-learn's users meet it: conventions, bad input, interrupts, going on."""

from __future__ import annotations

import pickle
import sys
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import check_estimator

import brevitas_ftprop
from brevitas_ftprop import FTPROPClassifier
from brevitas_ftprop.algorithm1 import recursion

XOR = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])


def blobs(rows=60, classes=3):
    rng = np.random.RandomState(0)
    labels = np.arange(rows) % classes
    return 3 * rng.normal(size=(classes, 4))[labels] + rng.normal(size=(rows, 4)), labels


def state(classifier):
    """Everything that was fitted, as bytes."""
    parameters = classifier.get_params()
    return {n: pickle.dumps(value) for n, value in vars(classifier).items() if n not in parameters}


def test_scikit_learns_own_checks_pass():
    results = check_estimator(FTPROPClassifier((8,), budget=5), on_skip=None)
    assert len(results) > 40
    assert {result["status"] for result in results} <= {"passed", "skipped"}


def test_an_infeasible_fit_ends_within_its_budget_and_names_its_units_once():
    x, y = XOR
    with pytest.warns(ConvergenceWarning) as said:
        classifier = FTPROPClassifier((1,), budget=7, random_state=0).fit(x, y)
    # SciPy warns of options that an older scikit-learn sets.
    said = [each for each in said if each.category is ConvergenceWarning]
    assert len(said) == 1
    assert "targets were set 7 times; 2 of 4 rows are not fitted" in str(said[0].message)
    assert "output units that are not separable: class 1" in str(said[0].message)
    assert said[0].filename == __file__
    assert len(classifier.decisions_) == 7
    assert classifier.infeasible_units_.tolist() == [0]
    assert (classifier.predict(x) != y).nonzero()[0].tolist() == classifier.wrong_rows_.tolist()


def test_equal_rows_of_different_classes_are_named():
    x, y = blobs()
    x[7], x[50] = x[3], x[2]
    with pytest.warns(ConvergenceWarning, match=r"equal but of two classes: 3 and 7$") as said:
        classifier = FTPROPClassifier(budget=5, random_state=0).fit(x, y)
    assert [each.category for each in said].count(ConvergenceWarning) == 1
    assert y[50] == y[2]
    assert len(classifier.wrong_rows_) >= 1


def test_rows_that_only_float64_tells_apart_are_equal():
    x, y = np.array([[1.0], [1.0 + 1e-12], [2.0]]), [0, 1, 1]
    with pytest.warns(ConvergenceWarning, match="two classes: 0 and 1"):
        FTPROPClassifier(budget=3).fit(x, y)


def test_a_network_without_hidden_layers_is_one_convex_problem():
    x, y = blobs()
    classifier = FTPROPClassifier((), random_state=0).fit(x, y)
    assert classifier.score(x, y) == 1
    assert classifier.decisions_ == []
    with pytest.warns(ConvergenceWarning, match="targets were set 0 times; 2 of 4 rows"):
        FTPROPClassifier(()).fit(*XOR)


def test_the_same_seed_gives_the_same_network_and_log():
    x, y = blobs(classes=2)
    y = y ^ (x[:, 0] > 0)
    first, second = (FTPROPClassifier((4,), budget=12, random_state=3) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        first.fit(x, y)
        second.fit(x, y)
    assert first.decisions_ == second.decisions_
    assert np.array_equal(first.decision_function(x), second.decision_function(x))


def interrupt_after(calls, monkeypatch):
    fit_perceptron, left = recursion.fit_perceptron, [calls]

    def interrupted(*args):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return fit_perceptron(*args)

    monkeypatch.setattr(recursion, "fit_perceptron", interrupted)


@pytest.mark.parametrize("calls", [0, 2, 3, 20, 41])
def test_an_interrupted_fit_keeps_the_best_network_and_says_so(calls, monkeypatch):
    x, y = blobs(120)
    y = (y + (x[:, 0] > 0)) % 3
    with monkeypatch.context() as patch:
        interrupt_after(calls, patch)
        with pytest.warns(ConvergenceWarning, match="interrupted, the best network") as said:
            classifier = FTPROPClassifier((3, 3), random_state=0).fit(x, y)
    assert [each.category for each in said].count(ConvergenceWarning) == 1
    wrong = (classifier.predict(x) != y).sum()
    assert wrong == len(classifier.wrong_rows_)
    tried = [d.wrong for d in classifier.decisions_ if d.layer == 2 and d.wrong is not None]
    assert wrong <= min(tried, default=len(x))
    with pytest.warns(ConvergenceWarning, match="targets were set 3 times"):
        classifier.set_params(budget=3).partial_fit(x, y)
    assert len(classifier.wrong_rows_) <= wrong


def test_partial_fit_goes_on_until_every_row_is_fitted():
    x, y = np.random.RandomState(0).normal(size=(60, 3)), np.arange(60) % 3
    classifier = FTPROPClassifier((18,), budget=4, random_state=0)
    wrong, calls = len(x), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        while wrong and calls < 40:
            classifier.partial_fit(x, y, classes=[0, 1, 2])
            assert len(classifier.wrong_rows_) <= wrong
            wrong, calls = len(classifier.wrong_rows_), calls + 1
    assert calls > 1
    assert classifier.score(x, y) == 1
    assert 4 * (calls - 1) < len(classifier.decisions_) <= 4 * calls
    network, decisions = pickle.dumps(classifier.network_), len(classifier.decisions_)
    classifier.partial_fit(x[:50], y[:50])
    assert pickle.dumps(classifier.network_) == network
    assert len(classifier.decisions_) == decisions


BAD = {
    "one class": ({}, XOR[0], [1, 1, 1, 1], r"y has one class, \[1\]: at least two are needed"),
    "NaN": ({}, [[0, np.nan], [1, 1]], [0, 1], "Input X contains NaN"),
    "too large": ({}, [[0, 1e39], [1, 1]], [0, 1], "too large for dtype"),
    "real-valued": ({}, XOR[0], [0.1, 0.2, 0.3, 0.4], "Unknown label type: continuous"),
    "lengths": ({}, XOR[0], [0, 1], "inconsistent numbers of samples"),
    "a size of 0": ({"hidden_layer_sizes": (4, 0)}, *XOR, r"positive integers.* not \(4, 0\)"),
    "half a unit": ({"hidden_layer_sizes": (1.5,)}, *XOR, "positive integers"),
    "sizes in words": (
        {"hidden_layer_sizes": "4"},
        *XOR,
        "positive integers, one a layer, not '4'",
    ),
    "budget": ({"budget": -1}, *XOR, "budget has to be an integer of at least 0, not -1"),
    "a true budget": ({"budget": True}, *XOR, "budget has to be an integer"),
    "candidates": ({"candidates": 0}, *XOR, "candidates has to be an integer of at least 1"),
    "seed": ({"random_state": "seed"}, *XOR, "'seed' cannot be used to seed"),
}


@pytest.mark.parametrize(("parameters", "x", "y", "says"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_and_what_was_fitted_stays(parameters, x, y, says):
    classifier = FTPROPClassifier((3,), random_state=0).fit(*blobs(classes=2))
    before = state(classifier)
    classifier.set_params(**parameters)
    with pytest.raises(ValueError, match=says):
        classifier.fit(x, y)
    assert state(classifier) == before


def test_partial_fit_refuses_what_does_not_go_on_from_the_network():
    x, y = blobs()
    classifier = FTPROPClassifier((3,), random_state=0)
    with pytest.raises(ValueError, match="first call of partial_fit needs classes"):
        classifier.partial_fit(x, y)
    with pytest.raises(ValueError, match=r"classes has one class, \[4\]"):
        classifier.partial_fit(x, y, classes=[4, 4])
    with pytest.raises(ValueError, match="X has 2 rows for 3 classes"):
        classifier.partial_fit(x[:2], y[:2], classes=[0, 1, 2])
    assert not hasattr(classifier, "network_")
    classifier.fit(x, y)
    before = state(classifier)
    for says, arguments in {
        r"classes is \[0, 1\], but the network was fitted to \[0, 1, 2\]": (x, y, [0, 1]),
        r"not among classes: \[3\]": (x, y + (y == 2)),
        "X has 3 features, but FTPROPClassifier is expecting 4": (x[:, :3], y),
    }.items():
        with pytest.raises(ValueError, match=says):
            classifier.partial_fit(*arguments)
    classifier.hidden_layer_sizes = (4,)
    with pytest.raises(
        ValueError, match=r"is \[4\], but the network was fitted with \[3\]: fit anew"
    ):
        classifier.partial_fit(x, y)
    assert state(classifier) == before


def test_a_solver_that_fails_leaves_what_was_fitted(monkeypatch):
    x, y = blobs()
    classifier = FTPROPClassifier((3,), random_state=0).fit(x, y)
    del classifier._random_state
    before = state(classifier)

    def fails(*_):
        raise MemoryError

    monkeypatch.setattr(recursion, "fit_perceptron", fails)
    with pytest.raises(MemoryError):
        classifier.fit(x[:, :2], y)
    with pytest.raises(MemoryError):
        classifier.partial_fit(x, (y + 1) % 3)
    assert state(classifier) == before


def test_without_scikit_learn_the_name_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install 'brevitas-ftprop\[algorithm1\]'"):
        _ = brevitas_ftprop.FTPROPClassifier
