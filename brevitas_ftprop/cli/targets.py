"""``brevitas-ftprop targets``: all target setters in a table."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ..runs.own_modules import own_part
from . import options
from .outcome import Outcome, finish

if TYPE_CHECKING:
    from ..targets import TargetSetter


def targets(
    setter: Annotated[
        list[str] | None, typer.Argument(help="Setters to show, with parameters if you like; all.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List the target setters: the target t and weight w of each unit, and the parameters."""

    def work() -> Outcome:
        from ..targets import SETTERS, get_setter

        described = [_described(get_setter(own_part(spec)[0])) for spec in setter or SETTERS]
        return Outcome(True, {"setters": described}, _table(described))

    finish(work, as_json=as_json)


def _described(setter: TargetSetter) -> dict[str, Any]:
    summary, _, _ = (inspect.getdoc(type(setter)) or "").partition("\n\n")
    return {
        "name": setter.name,
        "spec": setter.spec,
        "summary": " ".join(summary.replace("``", "").split()),
        "parameters": {field.name: getattr(setter, field.name) for field in fields(setter)},
    }


def _table(described: list[dict[str, Any]]) -> Table:
    table = Table(
        caption="g is the gradient of a unit's output; the rule follows −w·t in its place"
    )
    for column in ("setter", "targets and weights", "parameters"):
        table.add_column(column, overflow="fold", no_wrap=column == "setter")
    for setter in described:
        parameters = [f"{name} = {value}" for name, value in setter["parameters"].items()]
        table.add_row(setter["name"], setter["summary"], "\n".join(parameters))
    return table
