"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

import brevitas_ftprop

from ..runs import own_modules
from . import check, export, outcome, quantize, rules, simulate, targets, verify

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    # A programming error shows Python's own traceback.
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 fine, 1 a difference or finding, 2 wrong usage or input, 3 an extra or "
    "tool is missing, 130 interrupted. Results go to stdout, messages to stderr. "
    "BREVITAS_FTPROP_TRACEBACK=1 shows where an error comes from.",
)
app.command("rules")(rules.rules)
app.command("targets")(targets.targets)
app.command("quantize")(quantize.quantize)
app.command("check")(check.check)
app.add_typer(export.app, name="export")
app.command("verify")(verify.verify)
app.command("simulate")(simulate.simulate)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(brevitas_ftprop.__version__)
        raise typer.Exit


@app.callback()
def _describe(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it and end."),
    ] = False,
    imports: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            help="A module of yours that registers rules or target setters; may be repeated.",
        ),
    ] = None,
) -> None:
    """Target-propagation gradients for Brevitas, and exports that compute what was trained.

    Models are named as PACKAGE.MODULE:FACTORY, also from the current directory: something that
    gives a torch.nn.Module when called, or a module itself. finn:PACKAGE.MODULE:FACTORY is a float
    one, quantized as by the command quantize.
    """
    outcome.attempt(lambda: own_modules.import_parts(imports or ()))
