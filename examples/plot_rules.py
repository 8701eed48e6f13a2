"""Draw every rule: loss and slope, sign and staircase with the gradients that pass.

    python examples/plot_rules.py examples/rules.png

`brevitas-ftprop rules soft_hinge "reste(o_end=5)" --plot some.png` draws those that it is given.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from brevitas_ftprop import RULES
from brevitas_ftprop.cli.rules_figure import draw_rules
from brevitas_ftprop.rules import Rule


def gallery() -> list[Rule]:
    """Every rule with its defaults; those that follow a schedule at start, middle and end."""
    stages = (rule().at(progress) for rule in RULES.values() for progress in (0.0, 0.5, 1.0))
    return list(dict.fromkeys(stages))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="a .png, .svg or .pdf file, replaced if it exists")
    draw_rules(gallery(), parser.parse_args(argv).path, overwrite=True, dpi=72)


if __name__ == "__main__":
    main()
