"""FTPROP, Algorithm 1: targets from the top down, perceptrons from the bottom up."""

from __future__ import annotations

import numpy as np

from ..separation import separating_weights
from .convex import fit_perceptron, logistic_loss, separate_all
from .cuts import carve, enclose
from .decision_log import Decision
from .heuristics import copy, planes_between, reachable, residual
from .proposal import LayerProblem, Proposal, Situation
from .threshold_network import ThresholdNetwork, sign

__all__ = ["Recursion", "wrong_rows"]

# A layer below may set targets so many times as its caller could, divided by this.
SHARE = 3
# Carving is tried in the first of so many turns.
TURNS = 10


class Recursion:
    """One run of FTPROP from a network, and the best network that it came by.

    FTPROP(d) optimises the weights of layer d for its targets. If the layer then gives them, it has
    succeeded; if d = 1 it has failed. Else, while its budget lasts, it sets targets for layer
    d − 1, calls FTPROP(d − 1), optimises the weights of layer d on what the layer below gives now,
    and tests again.

    Two things are not in the paper. Where FTPROP(d − 1) fails, what its layer gives instead takes
    the place of the targets. A change that makes the loss of layer d larger is taken back.

    Args:
        network: what to start from.
        inputs: float32 values as float64, shape (N, D).
        targets: of the output units, ±1, shape (N, outputs).
        budget: how many times targets may be set, in all layers together.
        candidates: how many patterns ``reachable`` chooses from.
        rng: draws everything.

    Attributes:
        best: the network with fewest wrong rows so far, and of those the one of least loss.
        wrong: which rows those are, bool, shape (N,).
        rank: how many they are, and the loss.
        decisions: the log.

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573, Algorithm 1.
    """

    def __init__(
        self,
        network: ThresholdNetwork,
        inputs: np.ndarray,
        targets: np.ndarray,
        *,
        budget: int,
        candidates: int,
        rng: np.random.RandomState,
    ):
        self.network, self.inputs, self.targets = network.copy(), inputs, targets
        self.left, self.candidates, self.rng = budget, candidates, rng
        self.decisions: list[Decision] = []
        self.center = inputs.mean(axis=0)
        spread = inputs.std(axis=0)
        self.spread = np.where(spread > 0, spread, 1.0)
        self.rank = (np.inf, np.inf)
        self._keep_if_best()

    def start(self) -> None:
        """Give every hidden layer planes between rows of different classes."""
        for layer in range(1, self.network.depth):
            units = len(self.network.biases[layer - 1])
            even = np.ones_like(self.targets)
            planes = planes_between(self._fed(layer), self.targets, even, units, self.rng)
            for unit, (normal, bias) in enumerate(zip(*planes, strict=True)):
                self._set_unit(layer, unit, normal, bias)

    def run(self) -> bool:
        """Whether the network gives every row its class."""
        outputs = range(self.targets.shape[1])
        problem = LayerProblem(outputs, self.targets, np.ones_like(self.targets))
        return self._reach(self.network.depth, problem, self.left)

    def inseparable_outputs(self) -> list[int]:
        """Output units that no weights let tell their class from the rest.

        Given what the best network's last hidden layer gives; a linear program decides about each
        unit that is not right already.
        """
        depth = self.best.depth
        self.network = self.best
        fed, scores = self._fed(depth), self.best.scores(self.inputs)
        return [
            unit
            for unit, targets in enumerate(self.targets.T)
            if (targets * scores[:, unit] <= 0).any() and separating_weights(fed, targets) is None
        ]

    def _reach(self, layer: int, problem: LayerProblem, allowance: int) -> bool:
        """FTPROP(layer)."""
        if self._optimised(layer, problem):
            return True
        if layer == 1:
            return False
        loss, stop, turn = self._loss(layer, problem), self.left - allowance, 0
        while self.left > stop:
            below, before = layer - 1, self.network.copy()
            proposal = self._proposal(layer, problem, turn)
            self.left -= 1
            decision = Decision(below, proposal.heuristic, tuple(proposal.problem.units), self.left)
            self.decisions.append(decision)
            for unit, (normal, bias) in zip(proposal.problem.units, proposal.start, strict=False):
                self._set_unit(below, unit, normal, bias)
            self._reach(below, proposal.problem, (self.left - stop) // SHARE)
            decision.reached = int((self._missed(below, proposal.problem) == 0).sum())
            succeeded = self._optimised(layer, problem)
            decision.loss_before, decision.loss_after = loss, self._loss(layer, problem)
            decision.wrong = int(self._wrong(layer, problem).sum())
            # A step that changes nothing above is kept: plateaus are crossed that way.
            decision.kept = succeeded or decision.loss_after <= loss * (1 + 1e-9)
            if succeeded:
                return True
            if decision.kept:
                loss = decision.loss_after
            else:
                self.network = before
            turn += 1
        return False

    def _proposal(self, layer: int, problem: LayerProblem, turn: int) -> Proposal:
        below = layer - 1
        situation = Situation(
            problem,
            self._margins(layer, problem),
            self.network.weights[layer - 1][list(problem.units)],
            self.network.inputs_of(layer, self.inputs),
            self._fed(below),
        )
        proposal = None
        if turn % TURNS == 0:
            proposal = carve(situation, self.rng)
        if proposal is None and turn == 0 and below > 1:
            proposal = copy(situation)
        if proposal is None and turn % 3 == 2:
            proposal = enclose(situation, self.rng)
        if proposal is None and turn % 3:
            proposal = reachable(situation, self.rng, self.candidates)
        return proposal or residual(situation, self.rng)

    def _optimised(self, layer: int, problem: LayerProblem) -> bool:
        """Optimise the units for their targets; whether the layer then does what it should."""
        if not self._wrong(layer, problem).any():
            return True
        fed = self._fed(layer)
        columns = zip(problem.units, problem.targets.T, problem.weights.T, strict=True)
        for unit, targets, weights in columns:
            self._set_unit(layer, unit, *fit_perceptron(fed, targets, weights))
        self._keep_if_best()
        missed = self._missed(layer, problem)
        # Logistic regression may leave a few rows of separable units; the linear program does not.
        if 0 < missed.sum() <= fed.shape[1] + 1 and self._wrong(layer, problem).any():
            hardest = np.argsort(-missed)[: np.count_nonzero(missed)]
            solutions = separate_all(fed, problem.targets[:, hardest])
            for column, solution in zip(hardest, solutions or (), strict=False):
                self._set_unit(layer, problem.units[column], *solution)
            self._keep_if_best()
        return not self._wrong(layer, problem).any()

    def _fed(self, layer: int) -> np.ndarray:
        """What the solvers see of a layer's inputs: those of the network are standardised."""
        if layer == 1:
            return (self.inputs - self.center) / self.spread
        return self.network.inputs_of(layer, self.inputs)

    def _set_unit(self, layer: int, unit: int, weights: np.ndarray, bias: float) -> None:
        """Give a unit the weights that a solver found.

        A hidden unit's threshold goes midway between the rows on either side of it, so that float32
        decides about each row as float64 does.
        """
        if layer == 1:
            weights = weights / self.spread
            bias = bias - float(weights @ self.center)
        if layer < self.network.depth:
            z = self.network.inputs_of(layer, self.inputs) @ weights + bias
            negative, others = z[z < 0], z[z >= 0]
            if len(negative) and len(others):
                bias -= float(negative.max() + others.min()) / 2
        self.network.set_unit(layer, unit, weights, bias)

    def _outputs(self, layer: int, problem: LayerProblem) -> np.ndarray:
        return sign(self._pre_activations(layer, problem))

    def _margins(self, layer: int, problem: LayerProblem) -> np.ndarray:
        return problem.targets * self._pre_activations(layer, problem)

    def _pre_activations(self, layer: int, problem: LayerProblem) -> np.ndarray:
        h = self.network.inputs_of(layer, self.inputs)
        return self.network.pre_activations(layer, h)[:, list(problem.units)]

    def _loss(self, layer: int, problem: LayerProblem) -> float:
        return float((problem.weights * logistic_loss(self._margins(layer, problem))).sum())

    def _missed(self, layer: int, problem: LayerProblem) -> np.ndarray:
        """On how many rows each unit misses its target, shape (units,)."""
        return (self._outputs(layer, problem) != problem.targets).sum(axis=0)

    def _wrong(self, layer: int, problem: LayerProblem) -> np.ndarray:
        """Rows on which the layer does not do what it should, shape (N,)."""
        if layer == self.network.depth:
            return wrong_rows(self.network.scores(self.inputs), problem.targets)
        return (self._outputs(layer, problem) != problem.targets).any(axis=1)

    def _keep_if_best(self) -> None:
        scores = self.network.scores(self.inputs)
        wrong = wrong_rows(scores, self.targets)
        rank = int(wrong.sum()), float(logistic_loss(self.targets * scores).sum())
        if rank <= self.rank:
            self.best, self.wrong, self.rank = self.network.copy(), wrong, rank


def wrong_rows(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Rows whose class the scores miss: the largest, or of a single score the sign, is to be right.

    >>> wrong_rows(np.array([[2.0, 1.0], [0.5, 1.0]]), np.array([[1, -1], [1, -1]])).tolist()
    [False, True]
    """
    if targets.shape[1] == 1:
        return ((scores > 0) != (targets > 0))[:, 0]
    return scores.argmax(axis=1) != targets.argmax(axis=1)
