"""A fully connected network of hard thresholds whose decisions float32 keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["ThresholdNetwork", "sign"]

# Sums of so many steps of a unit's grid are whole numbers that float32 holds, whatever their order.
STEPS = 2.0**23


def sign(z: np.ndarray) -> np.ndarray:
    """±1 in the dtype of z, with sign(0) = 1 as in Brevitas.

    >>> sign(np.array([-0.5, 0.0, 2.0])).tolist()
    [-1.0, 1.0, 1.0]
    """
    return np.where(z >= 0, z.dtype.type(1), z.dtype.type(-1))


@dataclass
class ThresholdNetwork:
    """Layers ``z = h·Wᵀ + b`` with ``h = sign(z)`` between them; the last gives its z.

    Every number is one of float32. Layers are counted from 1.

    Attributes:
        weights: of each layer, shape (units, inputs).
        biases: of each layer, shape (units,).

    >>> xor = ThresholdNetwork.zeros([2, 2, 1])
    >>> xor.set_unit(1, 0, np.array([1.0, 1.0]), -0.5)
    >>> xor.set_unit(1, 1, np.array([1.0, 1.0]), -1.5)
    >>> xor.set_unit(2, 0, np.array([1.0, -1.0]), -1.0)
    >>> xor.scores(np.array([[0, 0], [0, 1], [1, 0], [1, 1]])).ravel().tolist()
    [-1.0, 1.0, 1.0, -1.0]
    """

    weights: list[np.ndarray]
    biases: list[np.ndarray]

    @classmethod
    def zeros(cls, sizes: list[int]) -> ThresholdNetwork:
        """A network from the number of inputs to the number of outputs, all zero."""
        shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
        return cls([np.zeros(shape) for shape in shapes], [np.zeros(units) for units, _ in shapes])

    @property
    def depth(self) -> int:
        return len(self.weights)

    @property
    def sizes(self) -> list[int]:
        """From the number of inputs to the number of outputs."""
        return [self.weights[0].shape[1], *map(len, self.biases)]

    def copy(self) -> ThresholdNetwork:
        return ThresholdNetwork([w.copy() for w in self.weights], [b.copy() for b in self.biases])

    def pre_activations(self, layer: int, h: np.ndarray) -> np.ndarray:
        """z of a layer, shape (N, units), from its inputs."""
        return h @ self.weights[layer - 1].T + self.biases[layer - 1]

    def inputs_of(self, layer: int, x: np.ndarray) -> np.ndarray:
        """What a layer is fed where the network is fed ``x``, shape (N, inputs of the layer)."""
        for below in range(1, layer):
            x = sign(self.pre_activations(below, x))
        return x

    def scores(self, x: np.ndarray) -> np.ndarray:
        """z of the last layer, shape (N, outputs)."""
        return self.pre_activations(self.depth, self.inputs_of(self.depth, x))

    def undecided(self, x: np.ndarray) -> np.ndarray:
        """Rows of which sums in float32 may decide otherwise, in one order or another.

        Behind the first layer sums are exact. In it a sum of n numbers is off by at most n·2⁻²⁴ of
        the sum of their sizes, and by nothing where all are whole multiples of one number that is
        not too small.

        Args:
            x: float32 values as float64, shape (N, inputs).

        Returns:
            bool, shape (N,).
        """
        weights, biases = self.weights[0], self.biases[0]
        z = self.pre_activations(1, x)
        size = np.abs(x) @ np.abs(weights).T + np.abs(biases)
        error = (x.shape[1] + 1) * 2.0**-24 * size
        step = np.outer(_steps(x), _steps(weights))
        error[size < np.minimum(step, _steps(biases[:, None])) * 2.0**24] = 0
        if self.depth > 1 or z.shape[1] == 1:
            return (np.abs(z) < error).any(axis=1)
        first, second = np.sort(z, axis=1)[:, :-3:-1].T
        return first - second < 2 * error.max(axis=1)

    def set_unit(self, layer: int, unit: int, weights: np.ndarray, bias: float) -> None:
        """Give a unit weights and a bias, rounded to float32.

        Behind the first layer they are whole multiples of a power of two, and few enough of it that
        their sums with signs are exact in float32.
        """
        numbers = np.append(weights, bias)
        size = np.abs(numbers).sum()
        if layer > 1 and size > 0:
            grid = np.exp2(np.ceil(np.log2(size))) / STEPS
            numbers = np.round(numbers / grid) * grid
        numbers = numbers.astype(np.float32)
        self.weights[layer - 1][unit], self.biases[layer - 1][unit] = numbers[:-1], numbers[-1]


def _steps(numbers: np.ndarray) -> np.ndarray:
    """The largest power of two of which all numbers of a row are whole multiples.

    >>> _steps(np.array([[0.75, 2.0], [0.0, 8.0], [0.0, 0.0]])).tolist()
    [0.25, 8.0, inf]
    """
    fractions, exponents = np.frexp(numbers)
    bits = (fractions * 2.0**53).astype(np.int64)
    steps = np.where(bits == 0, np.inf, np.ldexp((bits & -bits).astype(float), exponents - 53))
    return steps.min(axis=1)
