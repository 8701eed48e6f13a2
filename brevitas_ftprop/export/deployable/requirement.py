"""What a requirement is, and how one joins the requirements of a target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .finding import ERROR, Finding
from .graph_view import GraphView

__all__ = ["Found", "Requirement", "Requirements", "requirement"]

# Layer and message of each place that breaks a requirement.
Found = Iterator[tuple[str, str]]


@dataclass(frozen=True)
class Requirement:
    """One way in which a model can miss a target.

    Attributes:
        name: stable identifier.
        severity: of its findings.
        why: the consequence of breaking it, and whether it is loud or silent.
        fix: what to change.
        find: the places of a traced model that break it.
    """

    name: str
    severity: str
    why: str
    fix: str
    find: Callable[[GraphView], Found]

    def findings(self, view: GraphView) -> Iterator[Finding]:
        """The findings in a traced model, each place once."""
        for layer, message in dict.fromkeys(self.find(view)):
            yield Finding(self.severity, layer, self.name, message, self.why, self.fix)


Requirements = dict[str, Requirement]


def requirement(
    of_target: Requirements, name: str, *, why: str, fix: str, severity: str = ERROR
) -> Callable:
    """Add the decorated function to a target's requirements.

    Raises:
        ValueError: if the name is taken.
    """

    def add(find: Callable[[GraphView], Found]) -> Callable[[GraphView], Found]:
        if name in of_target:
            raise ValueError(f"there is a requirement {name!r} already")
        of_target[name] = Requirement(name, severity, why, fix, find)
        return find

    return add
