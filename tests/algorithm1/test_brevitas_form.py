"""The Brevitas model: the estimator's decisions, exported and verified."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from brevitas_ftprop import FTPROPClassifier, export_qonnx, verify_export

pytestmark = pytest.mark.heavy


def fitted(classes, hidden, budget=30, scale=1.0):
    rng = np.random.RandomState(0)
    x = (scale * rng.normal(size=(90, 5)) + 3 * scale).astype(np.float32)
    y = rng.randint(classes, size=90)
    classifier = FTPROPClassifier(hidden, budget=budget, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return classifier.fit(x, y), x


def labels_of(scores):
    return scores.argmax(1) if scores.shape[1] > 1 else (scores[:, 0] > 0).int()


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e4])
@pytest.mark.parametrize(("classes", "hidden"), [(2, (20,)), (3, (12, 8)), (3, ()), (2, (6, 5, 4))])
def test_its_scores_are_the_estimators_to_the_bit(classes, hidden, scale):
    classifier, x = fitted(classes, hidden, scale=scale)
    with torch.no_grad():
        scores = classifier.to_brevitas()(torch.from_numpy(x))
    assert np.array_equal(labels_of(scores).numpy(), classifier.predict(x))
    if hidden:
        expected = classifier.decision_function(x).reshape(scores.shape)
        assert np.array_equal(scores.double().numpy(), expected)


@pytest.mark.parametrize("hidden", [(8,), ()])
@pytest.mark.parametrize("offset", [1e3, 1e6])
def test_rows_that_rounding_decides_count_as_wrong_in_whatever_order_is_summed(hidden, offset):
    rng = np.random.RandomState(0)
    x = (rng.normal(size=(40, 5)) + offset).astype(np.float32)
    y = (x[:, 0] - offset) * (x[:, 1] - offset) > 0
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ConvergenceWarning)
        classifier = FTPROPClassifier(hidden, random_state=0, budget=20).fit(x, y)
    assert ("what float32 rounds of a threshold" in str(said[-1].message if said else "")) is (
        offset == 1e6
    )
    sure = np.setdiff1d(np.arange(40), classifier.wrong_rows_)
    weights, biases = (each[0].astype(np.float32) for each in vars(classifier.network_).values())
    found = []
    for order in itertools.permutations(range(5)):
        z = np.broadcast_to(biases, (40, len(biases)))
        for feature in order:
            z = z + x[:, [feature]] * weights[:, feature]
        found.append(z >= 0)
    assert all(np.array_equal(each[sure], found[0][sure]) for each in found)
    if offset == 1e6 and hidden:
        assert not all(np.array_equal(each, found[0]) for each in found)
        assert len(sure) < 40
    else:
        assert len(sure) > 10


def test_it_exports_and_verifies_without_a_difference(tmp_path):
    classifier, x = fitted(3, (12, 8))
    model, rows = classifier.to_brevitas(), torch.from_numpy(x)
    report = verify_export(model, export_qonnx(model, rows[:1], tmp_path / "net.onnx"), rows)
    assert report.ok
    for part in report.quantizers:
        assert part.compared > 0
        found = part.quantizer_mismatches, part.adversarial_mismatches, part.layer_mismatches
        assert (*found, part.excused) == (0, 0, 0, 0)


def test_a_pre_activation_of_zero_is_plus_one_in_both():
    classifier, x = fitted(2, (3,))
    network = classifier.network_
    network.set_unit(1, 0, np.zeros(5), 0.0)
    for unit in (1, 2):
        network.set_unit(1, unit, np.eye(5)[0], 0.0)
    x = np.zeros((2, 5), dtype=np.float32)
    with torch.no_grad():
        scores = classifier.to_brevitas()(torch.from_numpy(x)).numpy()
    assert np.array_equal(scores.ravel(), classifier.decision_function(x))
    assert scores[0, 0] == np.float32(network.weights[1].sum() + network.biases[1][0])
