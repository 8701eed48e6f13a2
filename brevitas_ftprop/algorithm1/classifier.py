"""The scikit-learn estimator."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_X_y, validate_data

from .decision_log import Decision
from .recursion import Recursion
from .shortfall import shortfall
from .threshold_network import ThresholdNetwork

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["FTPROPClassifier"]


class FTPROPClassifier(ClassifierMixin, BaseEstimator):
    """Fully connected network of hard thresholds, trained by FTPROP (Algorithm 1).

    ``h_d = sign(h_{d-1}·W_dᵀ + b_d)``; the class is that of the largest output unit, of two classes
    the sign of a single one. Every unit is a perceptron with targets of its own, fitted as a convex
    problem: logistic regression, and a linear program where that leaves a few rows wrong. Targets
    of hidden layers are searched for until every training row has its class or the budget is spent:

    - ``carve`` cuts the rows along one direction, so that the layer above is separable by
      construction; it needs as many units as there are cuts.
    - ``copy`` hands the targets of the layer above down.
    - ``residual`` gives one unit the targets of a unit above, weighted by what they still cost.
    - ``reachable`` gives one unit the best of random patterns that a perceptron reaches.
    - ``enclose`` gives two units the sides of a slab whose rows are to be mended above.

    Inputs are taken in float32, as the network has them.

    Args:
        hidden_layer_sizes: units of each hidden layer, from the inputs up; of a single one also the
            number itself, and ``()`` for none.
        budget: how many times targets may be set in one ``fit`` or ``partial_fit``, ≥ 0.
        candidates: how many patterns ``reachable`` chooses from, ≥ 1.
        random_state: seed or ``RandomState`` of all draws.

    Attributes:
        classes_: shape (classes,).
        n_features_in_: number of features.
        feature_names_in_: their names, where X had any.
        network_: weights and biases.
        decisions_: the log, a :class:`~brevitas_ftprop.algorithm1.decision_log.Decision` each time
            that targets were set; ``partial_fit`` goes on with it.
        wrong_rows_: indices of the rows of the last training data that are not fitted, or so
            nearly not that rounding in float32 decides.
        infeasible_units_: output units that no weights let tell their class from the rest, given
            what the last hidden layer gives. There may be some though every row is fitted: the
            largest of several units can be right where not every sign is.

    Raises:
        ValueError: for parameters, data or classes that cannot be; what was fitted before stays.

    Warns:
        ConvergenceWarning: once, if rows stay wrong or Ctrl-C ended the search; the estimator then
            has the best network so far. It says how many rows, which units are not separable, and
            which rows are equal but of different classes, so that nothing could fit them.

    >>> X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> xor = FTPROPClassifier(hidden_layer_sizes=(2,), random_state=0).fit(X, y)
    >>> xor.predict(X).tolist()
    [0, 1, 1, 0]
    >>> xor.decisions_[0].heuristic, xor.decisions_[0].reached
    ('carve', 2)

    References:
        Friesen & Domingos, Deep Learning as a Mixed Convex-Combinatorial Optimization Problem,
        ICLR 2018, arXiv:1710.11573, Algorithm 1.
    """

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (32,),
        *,
        budget: int = 200,
        candidates: int = 64,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.budget = budget
        self.candidates = candidates
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> FTPROPClassifier:
        """Fit anew.

        Args:
            X: finite numbers, shape (N, features).
            y: labels of at least two classes, shape (N,).
        """
        rows, labels = self._checked(X, y)
        classes = _checked_classes(labels, "y")
        rng = check_random_state(self.random_state)
        return self._train(X, rows, labels, classes, rng, network=None)

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
    ) -> FTPROPClassifier:
        """Go on from the present network, with the budget anew.

        The rows given are those to be fitted; what earlier calls were given is not remembered.

        Args:
            X: finite numbers, shape (N, features), no fewer rows than classes.
            y: labels, shape (N,).
            classes: all labels that may come; wanted in a first call, and the same in later ones.
        """
        rows, labels = self._checked(X, y)
        network, known = getattr(self, "network_", None), getattr(self, "classes_", None)
        if known is None and classes is None:
            raise ValueError("the first call of partial_fit needs classes, all labels of the task")
        wanted = known if classes is None else _checked_classes(np.asarray(classes), "classes")
        assert wanted is not None
        if known is not None and not np.array_equal(known, wanted):
            raise ValueError(
                f"classes is {wanted.tolist()}, but the network was fitted to {known.tolist()}"
            )
        unknown = np.setdiff1d(labels, wanted)
        if len(unknown):
            raise ValueError(f"y has labels that are not among classes: {unknown.tolist()}")
        if len(rows) < len(wanted):
            raise ValueError(
                f"X has {len(rows)} rows for {len(wanted)} classes: partial_fit fits the rows that "
                "it is given, which have to be at least as many as the classes"
            )
        if network is not None:
            validate_data(self, X, reset=False, skip_check_array=True)  # pyright: ignore[reportArgumentType]
            hidden = _hidden_sizes(self.hidden_layer_sizes)
            if network.sizes[1:-1] != hidden:
                raise ValueError(
                    f"hidden_layer_sizes is {hidden}, but the network was fitted with "
                    f"{network.sizes[1:-1]}: fit anew"
                )
        rng = getattr(self, "_random_state", None) or check_random_state(self.random_state)
        return self._train(X, rows, labels, wanted, rng, network)

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Scores, shape (N, classes), or (N,) for two classes, of which above 0 is the second."""
        check_is_fitted(self)
        rows: Any = validate_data(self, X, reset=False, dtype=np.float32)  # pyright: ignore[reportArgumentType]
        scores = self.network_.scores(rows.astype(np.float64))
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Labels, shape (N,)."""
        scores = self.decision_function(X)
        return self.classes_[
            scores.argmax(axis=1) if scores.ndim == 2 else (scores > 0).astype(int)
        ]

    def to_brevitas(self) -> Module:
        """The network as a Brevitas model, which exports and verifies like any other.

        Its scores are the estimator's, to the bit, on every row whose pre-activations in the first
        layer are farther from 0 than float32 rounds; rows that the estimator was fitted to count as
        wrong where they are not, in whatever order the numbers are added up.

        Returns:
            A model in evaluation mode, from float32 (N, features) to the scores: (N, classes), or
            (N, 1) for two classes.

        >>> import torch
        >>> X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
        >>> xor = FTPROPClassifier(hidden_layer_sizes=(2,), random_state=0).fit(X, y)
        >>> (xor.to_brevitas()(torch.tensor(X).float()) > 0).ravel().tolist()
        [False, True, True, False]
        """
        from .brevitas_form import brevitas_model

        check_is_fitted(self)
        return brevitas_model(self.network_)

    def _checked(self, X: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Rows and labels, once the parameters are known to be right; the estimator stays as is."""
        _hidden_sizes(self.hidden_layer_sizes)
        for name, least in (("budget", 0), ("candidates", 1)):
            if not _is_integer(getattr(self, name), least):
                raise ValueError(
                    f"{name} has to be an integer of at least {least}, not {getattr(self, name)!r}"
                )
        rows, labels = check_X_y(X, y, dtype=np.float32, estimator=self)  # pyright: ignore[reportArgumentType]
        check_classification_targets(labels)
        return rows, labels

    def _train(
        self,
        X: ArrayLike,
        rows: np.ndarray,
        labels: np.ndarray,
        classes: np.ndarray,
        rng: np.random.RandomState,
        network: ThresholdNetwork | None,
    ) -> FTPROPClassifier:
        """Search from a network, or from a new one where there is none, and keep the best."""
        values = classes if len(classes) > 2 else classes[1:]
        targets = np.where(labels[:, None] == values, 1.0, -1.0)
        recursion = Recursion(
            network
            or ThresholdNetwork.zeros(
                [rows.shape[1], *_hidden_sizes(self.hidden_layer_sizes), len(values)]
            ),
            rows.astype(np.float64),
            targets,
            budget=self.budget,
            candidates=self.candidates,
            rng=rng,
        )
        interrupted = False
        try:
            if network is None:
                recursion.start()
            recursion.run()
        except KeyboardInterrupt:
            interrupted = True
        validate_data(self, X, reset=network is None, skip_check_array=True)  # pyright: ignore[reportArgumentType]
        self.classes_, self.network_, self._random_state = classes, recursion.best, rng
        earlier = [] if network is None else self.decisions_
        self.decisions_: list[Decision] = [*earlier, *recursion.decisions]
        undecided = recursion.best.undecided(recursion.inputs)
        self.wrong_rows_ = np.flatnonzero(recursion.wrong | undecided)
        self.infeasible_units_ = np.array(recursion.inseparable_outputs(), dtype=int)
        if interrupted or len(self.wrong_rows_):
            said = shortfall(
                rows,
                labels,
                len(self.wrong_rows_),
                values[self.infeasible_units_].tolist(),
                int((undecided & ~recursion.wrong).sum()),
            )
            kept = "interrupted, the best network so far is kept: " if interrupted else ""
            often = f"targets were set {len(recursion.decisions)} times"
            warnings.warn(f"{kept}{often}; {said}", ConvergenceWarning, stacklevel=3)
        return self


def _checked_classes(labels: np.ndarray, name: str) -> np.ndarray:
    classes = np.unique(labels)
    if len(classes) < 2:
        raise ValueError(f"{name} has one class, {classes.tolist()}: at least two are needed")
    return classes


def _hidden_sizes(sizes: Any) -> list[int]:
    listed = [sizes] if isinstance(sizes, Integral) else sizes
    if not isinstance(listed, list | tuple | np.ndarray) or not all(
        _is_integer(size, 1) for size in listed
    ):
        raise ValueError(
            f"hidden_layer_sizes has to be positive integers, one a layer, not {sizes!r}"
        )
    return [int(size) for size in listed]


def _is_integer(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least
