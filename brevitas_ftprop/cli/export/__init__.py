"""``brevitas-ftprop export``: one command a format."""

from __future__ import annotations

import typer

from . import files, finn, hls4ml

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Export a model: qonnx, qcdq, finn or hls4ml.")
app.command("qonnx")(files.qonnx)
app.command("qcdq")(files.qcdq)
app.command("finn")(finn.finn)
app.command("hls4ml")(hls4ml.hls4ml)
