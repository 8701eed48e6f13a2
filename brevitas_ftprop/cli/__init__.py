"""The command line, ``brevitas-ftprop``: rules, targets, quantize, check, export, verify, simulate.

Exit codes that scripts can rely on:

====  ==============================================================================
0     fine
1     found wanting: the file differs or belongs to another model, or the model does
      not map to the target
2     wrong usage or input: arguments, paths, module, checkpoint, batch, a damaged file
3     an extra or a tool is missing; the message says how to install it
130   interrupted
====  ==============================================================================

Results go to stdout, with ``--json`` as one object and nothing else; messages, progress and
whatever libraries print go to stderr. With BREVITAS_FTPROP_TRACEBACK=1 errors show where they come
from.

Importing this package imports neither Typer nor Rich: they are in the extra ``cli``.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence

__all__ = ["main"]

INSTALL = "pip install 'brevitas-ftprop[cli]'"
MISSING = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; ends the process with one of the exit codes."""
    missing = [name for name in ("typer", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"error: the command line needs {' and '.join(missing)}: {INSTALL}", file=sys.stderr)
        return MISSING
    from .app import app

    app(args=None if argv is None else list(argv), prog_name="brevitas-ftprop")
    return 0
