"""``brevitas-ftprop rules``: all rules in a table, and drawn."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ..runs.own_modules import own_part
from . import options
from .outcome import Outcome, finish

if TYPE_CHECKING:
    from ..rules import Rule

FORMATS = (".png", ".svg", ".pdf")


def rules(
    rule: Annotated[
        list[str] | None, typer.Argument(help="Rules to show, with parameters if you like; all.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw losses and gradients to a .png, .svg or .pdf file; of all rules, those that "
            "follow a schedule at its start, middle and end."
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """List the rules: loss and slope on the margin m = t·z, parameters, reference names."""

    def work() -> Outcome:
        from ..rules import RULES, get_rule

        shown = [get_rule(own_part(spec)[0]) for spec in rule or RULES]
        described = [_described(each) for each in shown]
        data: dict[str, Any] = {"rules": described, "plot": None}
        if plot is not None:
            if plot.suffix.lower() not in FORMATS:
                raise ValueError(f"the plot's name ends in {', '.join(FORMATS)}, not {plot.name!r}")
            from ..export.checks import check_path
            from .rules_figure import draw_rules

            target = check_path(plot, overwrite=overwrite)
            draw_rules(shown if rule else gallery(), target, overwrite=overwrite)
            data["plot"] = str(plot)
        return Outcome(True, data, _table(described))

    finish(work, as_json=as_json)


def gallery() -> list[Rule]:
    """Every rule with its defaults; those that follow a schedule at its start, middle and end."""
    from ..rules import RULES

    stages = (rule().at(progress) for rule in RULES.values() for progress in (0.0, 0.5, 1.0))
    return list(dict.fromkeys(stages))


def _described(rule: Rule) -> dict[str, Any]:
    loss, slope = _formulas(type(rule))
    return {
        "name": rule.name,
        "spec": rule.spec,
        "loss": loss,
        "slope": slope,
        "parameters": {field.name: getattr(rule, field.name) for field in fields(rule)},
        "symbols": _symbols(type(rule)),
        "aliases": {alias: dict(given) for alias, given in rule.aliases.items()},
        "even": rule.even,
        "kinks": list(rule.kinks),
    }


def _formulas(rule: type[Rule]) -> tuple[str, str]:
    """Loss and slope as the docstring writes them."""
    text = " ".join((inspect.getdoc(rule) or "").split())
    loss, slope = (re.search(rf"\b{word} ``(.+?)``", text) for word in ("Loss", "[Ss]lope"))
    integral = "integral of the slope" if "Loss, its integral" in text else ""
    return loss[1] if loss else integral, slope[1] if slope else ""


def _symbols(rule: type[Rule]) -> dict[str, str]:
    """The letter that stands for each parameter in the formulas."""
    text = inspect.getdoc(rule) or ""
    return dict(re.findall(r"^ +(\w+): the (\w),", text, re.MULTILINE))


def _table(described: list[dict[str, Any]]) -> Table:
    table = Table(
        caption="m = t·z is the margin; the gradient that passes is g·slope. In recipes "
        "and comparisons, stock keeps the gradients of Brevitas' own quantizers."
    )
    for column in ("rule", "loss", "slope", "parameters", "reference names"):
        table.add_column(column, overflow="fold", no_wrap=column == "rule")
    for rule in described:
        parameters = [
            f"{name} {f'{symbol} ' if (symbol := rule['symbols'].get(name)) else ''}= {value:.5g}"
            for name, value in rule["parameters"].items()
        ]
        aliases = ", ".join(rule["aliases"])
        table.add_row(rule["name"], rule["loss"], rule["slope"], "\n".join(parameters), aliases)
    return table
