"""What a requirement is, and how one joins the requirements of a target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .finding import ERROR, Finding
from .graph_view import GraphView

# Layer and message of each place that breaks a requirement.
Found = Iterator[tuple[str, str]]
Find = Callable[[GraphView], Found]


@dataclass(frozen=True)
class Requirement:
    """One way in which a model can miss a target.

    Attributes:
        name: stable identifier.
        severity: of its findings.
        why: the consequence of breaking it, and whether it is loud or silent.
        fix: what to change.
        find: the places of a traced model that break it.
        alone: whether it is asked only where no requirement before it is broken.
    """

    name: str
    severity: str
    why: str
    fix: str
    find: Find
    alone: bool = False

    def findings(self, view: GraphView) -> Iterator[Finding]:
        """The findings in a traced model, each place once."""
        for layer, message in dict.fromkeys(self.find(view)):
            yield Finding(self.severity, layer, self.name, message, self.why, self.fix)


class Requirements(dict[str, Requirement]):
    """The requirements of a target by name, in the order in which they are looked at."""

    def add(
        self, name: str, *, why: str, fix: str, severity: str = ERROR, alone: bool = False
    ) -> Callable:
        """Add the decorated function, which finds the places that break a requirement.

        Raises:
            ValueError: if the name is taken.
        """

        def add(find: Find) -> Find:
            if name in self:
                raise ValueError(f"there is a requirement {name!r} already")
            self[name] = Requirement(name, severity, why, fix, find, alone)
            return find

        return add
