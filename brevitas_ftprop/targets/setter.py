"""The target setter: which target each unit of a layer gets, and how much its loss counts."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Generator, Tensor

from ..specs import Specified


class Targets(NamedTuple):
    """What a setter decides for the units of a layer.

    Attributes:
        target: −1, 0 (the unit is left alone) or +1 for each unit, in the shape of its output.
        weight: of the unit's loss, at least 0.
    """

    target: Tensor
    weight: Tensor

    @property
    def followed(self) -> Tensor:
        """``-w·t``, which takes the place of the gradient of the output."""
        return -self.weight * self.target


class Above(Protocol):
    """What a setter may ask about the layer above, for other outputs of the units."""

    def losses(self, h: Tensor) -> Tensor:
        """Loss above of each row, shape (N,), for outputs ``h`` of shape (N, ...)."""
        ...

    def curvature(self, h: Tensor) -> Tensor:
        """``Σ_j |g_j|·ℓ″_j·(∂z_j/∂h_i)²`` of each unit, in the shape of ``h``."""
        ...

    def flip_changes(self, h: Tensor, units: Tensor, *, memory: int) -> Tensor:
        """Exact change of the loss above when one unit's output changes its sign.

        Args:
            h: outputs, shape (N, ...).
            units: which ones, as indices into ``h.flatten()``.
            memory: bytes that the temporaries of one chunk may take.

        Returns:
            The change for each of ``units``, as if it were the only one.
        """
        ...


class TargetSetter(Specified):
    """A choice of targets for the units of one layer, in a backward pass from the top down.

    A subclass sets ``name`` and defines :meth:`choose`; its parameters are annotated class
    attributes with a number as default. Setters are immutable and written like rules,
    ``"local_search(candidates=16)"``.

    >>> class Follow(TargetSetter):
    ...     name = "follow"
    ...
    ...     def choose(self, h, grad, above, generator):
    ...         return Targets(-grad.sign(), grad.abs())
    """

    @property
    def is_default(self) -> bool:
        """Whether the targets are −sign(g) with weight |g|: then no layer need be looked at."""
        return False

    def choose(self, h: Tensor, grad: Tensor, above: Above, generator: Generator) -> Targets:
        """Targets and weights for one layer.

        Args:
            h: output of the units, ±s each, shape (N, ...).
            grad: gradient of the loss with respect to ``h``, of its shape.
            above: the layer above.
            generator: of random numbers, on the device of ``h``, for this search alone.
        """
        raise NotImplementedError(f"{type(self).__name__} must define choose(...)")

    def __repr__(self) -> str:
        return f"get_setter({self.spec!r})"
