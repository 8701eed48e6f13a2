"""Values with a bound on the float32 rounding error of whoever computes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..float32 import LARGEST_EXACT, SMALLEST, UNIT


class UnboundedError(Exception):
    """No error bound is known for an operator."""


@dataclass(frozen=True)
class Bounded:
    """What a correct float32 implementation may give: anything within ``error`` of ``value``.

    Attributes:
        value: float64 tensor, the result in (nearly) exact arithmetic; where ``error`` is 0 it is
            the float32 number that every implementation gives. Integer tensors (shapes, axes)
            are carried as they are.
        error: float64 tensor of the same shape, ≥ 0.
    """

    value: Tensor
    error: Tensor

    @property
    def magnitude(self) -> Tensor:
        """Largest absolute value within the bound."""
        return self.value.abs() + self.error

    @property
    def is_exact(self) -> bool:
        return not bool(self.error.any())


def exactly(value: Tensor) -> Bounded:
    """A tensor that is known without error.

    >>> exactly(torch.tensor([1.5])).is_exact
    True
    """
    value = value.double() if value.is_floating_point() else value
    # One zero for all elements: weights would need twice the memory otherwise.
    return Bounded(value, torch.zeros((), dtype=torch.float64).expand(value.shape))


def gamma(terms: int) -> float:
    """Relative error of a float32 sum of products, in any order, with or without FMA.

    ``n·u/(1 - n·u)`` for n roundings with the unit u = 2⁻²⁴, raised by a millionth for the float64
    arithmetic that the bound itself is computed with; less than n·eps (eps = 2⁻²³).

    >>> gamma(1000) < 1000 * torch.finfo(torch.float32).eps
    True

    Source: N. Higham, Accuracy and Stability of Numerical Algorithms, lemma 3.1.
    """
    return terms * UNIT / (1 - terms * UNIT) * (1 + 1e-6)


def quantum_exponent(x: Tensor, dims: Sequence[int] | None = None) -> Tensor:
    """Exponent of the largest power of two that divides every element; inf for zeros.

    Args:
        x: float64 tensor.
        dims: dimensions to reduce and keep with size 1; none of them if empty; all of them (to a
            scalar) if None.

    >>> quantum_exponent(torch.tensor([0.75, 2.0], dtype=torch.float64))
    tensor(-2., dtype=torch.float64)
    """
    mantissa, exponent = torch.frexp(x.double())
    integer = (mantissa * 2.0**53).to(torch.int64)
    lowest = (integer & -integer).double().log2()
    exponents = torch.where(integer == 0, torch.inf, exponent.double() - 53 + lowest)
    if dims is None:
        return exponents.amin()
    # torch takes an empty list of dimensions for all of them.
    return exponents.amin(dim=tuple(dims), keepdim=True) if len(dims) else exponents


def sum_error(total: Tensor, terms: int, quantum: Tensor | None) -> Tensor:
    """Rounding error of a float32 sum whose absolute terms add up to ``total``.

    Zero where all terms are multiples of ``2**quantum`` ≥ 2⁻¹⁴⁹ and ``total`` stays within 2²⁴ of
    them: then every partial sum is a float32 number, whatever the order.

    Args:
        total: Σ|terms|, float64.
        terms: number of roundings along the longest path.
        quantum: exponent that divides every term, broadcastable to ``total``; None if unknown.
    """
    error = gamma(terms) * total + terms * SMALLEST
    if quantum is None:
        return error
    is_exact = (total <= LARGEST_EXACT * torch.exp2(quantum)) & (torch.exp2(quantum) >= SMALLEST)
    return torch.where(is_exact, 0.0, error)


def outward(x: Bounded) -> tuple[Tensor, Tensor]:
    """Float32 ends of the interval ``value ± error``, rounded away from its middle."""
    low, high = x.value - x.error, x.value + x.error
    low32, high32 = low.float(), high.float()
    infinity = torch.tensor(torch.inf)
    low32 = torch.where(low32.double() > low, torch.nextafter(low32, -infinity), low32)
    high32 = torch.where(high32.double() < high, torch.nextafter(high32, infinity), high32)
    return low32, high32
