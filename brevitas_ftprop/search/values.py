"""Values between a quantizer's output and what it reaches, each computed when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from .recording import Node
from .replay import run, run_by_row


class Values(dict[int, Tensor]):
    """Tensors by the identity of their recorded values, computed again where they are not known.

    Args:
        nodes: operators between, in their order.
        known: tensors to begin with.
        is_recorded: whether they are those of the recorded pass.
    """

    def __init__(self, nodes: Iterable[Node], known: dict[int, Tensor], *, is_recorded: bool):
        super().__init__(known)
        self.is_recorded = is_recorded
        made = [(output, node) for node in nodes for output in node.outputs if output is not None]
        self._makers = {id(output): node for output, node in made}
        self._choices = {id(output) for output, _ in made if output.is_choice}

    def __missing__(self, key: int) -> Tensor:
        node = self._makers[key]
        for output, result in zip(node.outputs, run(node, self), strict=True):
            if output is not None:
                self.setdefault(id(output), result)
        return self[key]

    def get(self, key: int, default: Tensor | None = None) -> Tensor | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self[key] if key in self or key in self._makers else default

    def is_choice(self, key: int) -> bool:
        """Whether no gradient passes a value."""
        return key in self._choices

    def by_row(self, nodes: Iterable[Node], rows: int) -> dict[int, Tensor]:
        """Each row's share of the scalars that operators give, by the scalars' identities."""
        shares: dict[int, Tensor] = {}
        for node in nodes:
            if all(output is not None and output.is_scalar for output in node.outputs):
                read = {ref.value for ref in node.refs if ref.value is not None}
                known = {key: shares.get(key, self.get(key)) for key in read}
                below = {key: each for key, each in known.items() if each is not None}
                shares[id(node.only_output)] = run_by_row(node, below, rows)[0]
        return shares
