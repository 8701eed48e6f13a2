"""A layer's units as perceptrons: convex problems, and the test whether one is separable."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from ..separation import separating_weights

__all__ = ["fit_perceptron", "logistic_loss", "separate_all", "unit_pull"]

# Weak: a unit should separate what can be separated, and only just stay finite where it does.
INVERSE_REGULARIZATION = 1e3
ITERATIONS = 200


def fit_perceptron(
    inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, float]:
    """Weights and a bias of least logistic loss ``Σ w·log(1 + exp(-m))``, m = t·z.

    Args:
        inputs: shape (N, D).
        targets: ±1, shape (N,).
        weights: of the rows' losses, ≥ 0, shape (N,).

    >>> w, b = fit_perceptron(np.array([[-1.0], [1.0]]), np.array([-1.0, 1.0]), np.ones(2))
    >>> bool(w[0] > 1), round(b, 6)
    (True, 0.0)
    """
    counted = weights > 0
    inputs, targets, weights = inputs[counted], targets[counted], weights[counted]
    if (targets == targets[:1]).all():
        return np.zeros(inputs.shape[1]), float(targets[0]) if len(targets) else 1.0
    solver = LogisticRegression(C=INVERSE_REGULARIZATION, max_iter=ITERATIONS, tol=1e-3)
    with warnings.catch_warnings():
        # Of a separable problem the loss has no minimum; what was reached is tested afterwards.
        warnings.simplefilter("ignore", ConvergenceWarning)
        solver.fit(inputs, targets, sample_weight=weights)
    return np.ravel(solver.coef_), float(np.ravel(solver.intercept_)[0])


def separate_all(inputs: np.ndarray, targets: np.ndarray) -> list[tuple[np.ndarray, float]] | None:
    """Separating weights and bias of every column of targets, or None at the first without.

    Args:
        inputs: shape (N, D).
        targets: ±1, shape (N, U).

    >>> corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> separate_all(corners, np.array([[-1, -1], [1, -1], [1, -1], [-1, 1]])) is None
    True
    """
    solutions = []
    for column in targets.T:
        solution = separating_weights(inputs, column)
        if solution is None:
            return None
        solutions.append(solution)
    return solutions


def logistic_loss(margins: np.ndarray) -> np.ndarray:
    """``log(1 + exp(-m))``, elementwise.

    >>> logistic_loss(np.array([0.0, 1000.0])).round(4).tolist()
    [0.6931, 0.0]
    """
    return np.logaddexp(0.0, -margins)


def unit_pull(margins: np.ndarray) -> np.ndarray:
    """``-ℓ′(m) = σ(-m)``: how much the loss falls as the margin grows, elementwise.

    >>> unit_pull(np.array([0.0, 1000.0])).tolist()
    [0.5, 0.0]
    """
    return np.exp(-np.logaddexp(0.0, margins))
